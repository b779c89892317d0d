// How far off a forecast of a training step may be, from published runs: what they took over what was forecast. Groups
// count alike, whatever their size. A band holds the share of kShare of that, on devices of the same generation where
// kGroups of them or more were measured; else of all devices, made wider, and the band says so.
#pragma once

#include <string>
#include <vector>

#include "reports/validation.h"

namespace foretrain::search {

// Of one group on one generation of devices: measured over forecast step times, ascending.
struct Residuals {
  std::string group, generation;
  std::vector<double> ratios;
};

// As factors on a forecast step time. `basis` says in words what it rests on.
struct StepBand {
  double low = 0, high = 0;
  std::string basis;
};

constexpr double kShare = 0.8;
constexpr int kGroups = 3;
constexpr double kWider = 1.3;  // times the distance of both ends from the middle, where no such device was measured

// "NVIDIA A100 SXM4 80GB" and "A800-80GB" are "A100"; "" for what no generation is known of.
std::string generation_of(const std::string& device);

// Of the used step times, by group and generation in the order of the rows.
std::vector<Residuals> residuals_of(const reports::Validation& validation);

// REQUIRES: not empty.
StepBand step_band(const std::vector<Residuals>& residuals, const std::string& generation);

// Gives every used step time its band from the residuals of other groups only: those of `validation`, and of
// `published` where it has a group that `validation` does not.
void add_bands(reports::Validation& validation, const std::vector<Residuals>& published);

// foretrain.residuals/1. "" reads the catalogue's, reports/validation/residuals.json. Throws InputError.
std::vector<Residuals> load_residuals(const std::string& path);
std::string to_json(const std::vector<Residuals>& residuals);

}  // namespace foretrain::search
