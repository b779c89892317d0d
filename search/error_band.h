// How far off a forecast of a training step may be, from published runs: what they took over what was forecast.
// Logarithms of that lie around their weighted median; the band reaches as far to both sides as the share kShare of
// the weight does, beside which one group that nobody has seen counts as farther off than all (split conformal
// prediction with groups as what is exchangeable: Dunn et al. 2018, arXiv:1809.07441; weights: Barber et al. 2022,
// arXiv:2202.13415). So a single group far off moves the band little, and few groups make it as wide as they lie.
// Groups weigh alike, whatever their size; on devices of the same generation they weigh kAlike times as much. Models
// with experts and without never make each other's band, unless there is no other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reports/validation.h"

namespace foretrain::search {

// Of one group's models with experts, or without, on one generation of devices: measured over forecast step times,
// ascending.
struct Residuals {
  std::string group, generation;
  bool experts = false;
  std::vector<double> ratios;
};

// As factors on a forecast step time. `basis` says in words what it rests on.
struct StepBand {
  double low = 0, high = 0;
  std::string basis;
};

constexpr double kShare = 0.8;
constexpr double kAlike = 2;
// Times the distance of both ends from the middle, where no device of the generation, or no model with experts, was
// measured.
constexpr double kWider = 1.3;

// "NVIDIA A100 SXM4 80GB" and "A800-80GB" are "A100"; "" for what no generation is known of.
std::string generation_of(const std::string& device);

// Of the used step times, by group, generation and experts in the order of the rows.
std::vector<Residuals> residuals_of(const reports::Validation& validation);

// REQUIRES: not empty.
StepBand step_band(const std::vector<Residuals>& residuals, const std::string& generation, bool experts);

// Gives every used step time its band from the residuals of other groups only: those of `validation`, and of
// `published` where it has a group that `validation` does not.
void add_bands(reports::Validation& validation, const std::vector<Residuals>& published);

// foretrain.residuals/1. "" reads the catalogue's, reports/validation/residuals.json. Throws InputError.
std::vector<Residuals> load_residuals(const std::string& path);
// The catalogue's, read once for as long as the file stays as it is.
std::shared_ptr<const std::vector<Residuals>> published_residuals();
std::string to_json(const std::vector<Residuals>& residuals);

}  // namespace foretrain::search
