#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "reports/html/sources.h"
#include "reports/report.h"

namespace foretrain::reports {

namespace {

constexpr std::string_view kDataBegin = "<script type=\"application/json\" id=\"foretrain-report\">";
constexpr std::string_view kDataEnd = "</script>";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

// JSON in which nothing can end a script element or begin a comment: '<' stands in strings only.
std::string harmless(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    c == '<' ? out += "\\u003c" : out += c;
  }
  return out;
}

// The page with its marks, @NAME@, replaced; what stands for one is not looked into.
std::string filled(std::string_view page, const std::map<std::string_view, std::string_view>& texts) {
  std::string out;
  for (;;) {
    const std::size_t open = page.find('@');
    out += page.substr(0, open);
    if (open == std::string_view::npos) {
      return out;
    }
    const std::size_t close = page.find('@', open + 1);
    CHECK(close != std::string_view::npos, "a mark of the page has no end");
    out += texts.at(page.substr(open + 1, close - open - 1));
    page.remove_prefix(close + 1);
  }
}

}  // namespace

std::string to_html(const Report& r) {
  const nlohmann::ordered_json document = to_json(r);
  const std::string title = escaped(document["title"].get<std::string>());
  const std::string head = escaped(document["headline"].get<std::string>());
  const std::string data = fmt::format("{}{}{}", kDataBegin, harmless(document.dump()), kDataEnd);
  return filled(
      html::kPage,
      {{"TITLE", title}, {"HEADLINE", head}, {"STYLE", html::kStyle}, {"SCRIPT", html::kScript}, {"DOCUMENT", data}});
}

bool is_report_page(const std::string& text) {
  return text.find(kDataBegin) != std::string::npos;
}

nlohmann::ordered_json document_of_page(const std::string& html, const std::string& origin) {
  const std::size_t begin = html.find(kDataBegin);
  const std::size_t end = begin == std::string::npos ? begin : html.find(kDataEnd, begin);
  if (end == std::string::npos) {
    throw InputError(fmt::format("{}: no report of 'foretrain report': it carries no document", origin));
  }
  const std::size_t from = begin + kDataBegin.size();
  auto document = nlohmann::ordered_json::parse(html.substr(from, end - from), nullptr, false);
  if (!document.is_object() || document.value("schema", nlohmann::ordered_json()) != "foretrain.report/1" ||
      !document.contains(nlohmann::ordered_json::json_pointer("/estimate/resolved"))) {
    throw InputError(fmt::format("{}: the document that it carries is damaged; expected a foretrain.report/1", origin));
  }
  return document;
}

}  // namespace foretrain::reports
