// Everything about one job in one document, foretrain.report/1: for a page of HTML that carries it along, for markdown,
// CSV and a terminal.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "reports/compare.h"
#include "reports/estimate.h"
#include "reports/explain.h"
#include "reports/network_use.h"
#include "reports/pipeline.h"
#include "reports/search_figures.h"

namespace foretrain::reports {

struct Report {
  Estimate estimate;
  Pipeline pipeline;                     // of the steady step
  std::optional<NetworkUse> network;     // none: ranks that share one machine
  std::optional<Comparison> comparison;  // with a measured timeline
  std::optional<SearchFigures> search;
  std::vector<ResourceGain> resources;  // what a tenth more of each would buy
  std::string no_resources;             // why there are none of them
  std::string program;                  // "foretrain 0.1.0"
};

nlohmann::ordered_json to_json(const Report& r);

// One page that needs nothing beside it: styles, scripts and the document are in it. Opens from a disk.
std::string to_html(const Report& r);
std::string to_markdown(const Report& r);
// section, item, figure, value, unit: a row for each figure, in SI units.
std::string to_csv(const Report& r);
// The estimate's text, and pictures of what it has none of.
std::string to_text(const Report& r, bool colour);

// The document that a page carries. Throws InputError for a page that carries none.
nlohmann::json document_of_page(const std::string& html, const std::string& origin);
// Whether text is a page of to_html.
bool is_report_page(const std::string& text);

}  // namespace foretrain::reports
