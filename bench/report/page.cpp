// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "assets.hpp"
#include "document.hpp"
#include "report.hpp"
#include "text.hpp"

namespace cairn::report {
namespace {

using document::json;
using text::html;

constexpr std::string_view page_title = "Which strategy, at what size, and why";

// An element with text inside; nothing at all for an empty text.
std::string element(std::string_view tag, std::string_view text, std::string_view attributes = "") {
    if (text.empty()) return {};
    std::string result = "<";
    result.append(tag);
    if (!attributes.empty()) result.append(" ").append(attributes);
    return result.append(">").append(html(text)).append("</").append(tag).append(">\n");
}

// "+-0.05" and "1.20 to 1.31" are how a program writes it, "±0.05" and "1.20–1.31" how a page shows it.
std::string spread(std::string text) {
    if (text.starts_with("+-")) text.replace(0, 2, "±");
    if (std::size_t const at = text.find(" to "); at != std::string::npos) text.replace(at, 4, "–");
    return html(text);
}

std::string list(std::vector<std::string> const& sentences, std::string_view tag,
                 std::string_view attributes) {
    if (sentences.empty()) return {};
    std::string result = "<" + std::string(tag) + " " + std::string(attributes) + ">\n";
    for (std::string const& sentence : sentences) result += element("li", sentence);
    return result + "</" + std::string(tag) + ">\n";
}

// Unique anchors, readable where the id of the document allows it.
class anchors {
  public:
    std::string make(std::string const& id) {
        std::string result;
        for (char const c : id.substr(0, 60)) {
            bool const plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
            result += plain ? c : '-';
        }
        result = "q-" + result;
        std::string unique = result;
        for (int i = 2; !taken_.insert(unique).second; ++i) unique = result + "-" + std::to_string(i);
        return unique;
    }

  private:
    std::set<std::string> taken_;
};

std::string name_with_role(std::string const& name, document::role_map const& roles) {
    std::string_view const role = document::role(roles, name);
    std::string result = html(name);
    if (!role.empty()) result.append(" <small>").append(role).append("</small>");
    return result;
}

std::string table_element(document::table const& table, document::role_map const& roles, bool caption) {
    std::string title = table.title;
    if (!table.unit.empty()) title += title.empty() ? table.unit : ", " + table.unit;
    if (table.columns.empty()) return caption ? element("p", title, "class=\"caption\"") : "";
    std::vector<std::string> classes;
    for (std::size_t i = 0; i < table.columns.size(); ++i)
        classes.emplace_back(document::numeric(table, i) ? "" : " class=\"words\"");
    std::string result =
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"" + html(title) + "\">\n<table>\n";
    if (caption && !title.empty()) result += "<caption>" + html(title) + "</caption>\n";
    result += "<thead><tr>";
    for (std::size_t i = 0; i < table.columns.size(); ++i)
        result += "<th scope=\"col\"" + classes[i] + ">" + name_with_role(table.columns[i], roles) + "</th>";
    result += "</tr></thead>\n<tbody>\n";
    for (auto const& row : table.rows) {
        result += "<tr><th scope=\"row\"" + classes[0] + ">" + name_with_role(row[0].text, roles) + "</th>";
        for (std::size_t i = 1; i < row.size(); ++i) {
            document::cell const& cell = row[i];
            result += cell.winner
                          ? "<td class=\"wins" + std::string(classes[i].empty() ? "" : " words") + "\">"
                          : "<td" + classes[i] + ">";
            result += html(cell.text);
            if (cell.winner) result += "<span class=\"mark\" title=\"best of its row\">*</span>";
            if (!cell.spread.empty()) result += "<small>" + spread(cell.spread) + "</small>";
            result += "</td>";
        }
        result += "</tr>\n";
    }
    return result + "</tbody>\n</table>\n</div>\n";
}

// Who wins where, from the marks of the table: "1-8 linear, 16-256 cells" while that is short,
// else how many rows each wins. Empty if no row has a winner.
std::string winners(document::table const& table) {
    struct run {
        std::string name, first, last;
    };
    std::vector<run> runs;
    std::vector<std::pair<std::string, std::size_t>> counts;
    for (auto const& row : table.rows) {
        auto const won =
            std::find_if(row.begin() + 1, row.end(), [](auto const& cell) { return cell.winner; });
        if (row.size() < 2 || won == row.end()) continue;
        std::string const& name = table.columns[static_cast<std::size_t>(won - row.begin())];
        if (runs.empty() || runs.back().name != name) runs.push_back({name, row[0].text, row[0].text});
        runs.back().last = row[0].text;
        auto const counted = std::ranges::find(counts, name, &std::pair<std::string, std::size_t>::first);
        if (counted == counts.end())
            counts.emplace_back(name, 1);
        else
            ++counted->second;
    }
    std::string result;
    auto const add = [&](std::string const& part) { result += (result.empty() ? "" : ", ") + part; };
    if (runs.size() <= 5) {
        for (run const& r : runs)
            add(r.name + (r.first == r.last ? " at " + r.first : " " + r.first + "–" + r.last));
        return result;
    }
    // Names that win as often stay in the order of their first win; at most as many as there are columns.
    for (std::size_t i = 1; i < counts.size(); ++i)
        for (std::size_t j = i; j > 0 && counts[j - 1].second < counts[j].second; --j)
            std::swap(counts[j - 1], counts[j]);
    for (auto const& [name, rows] : counts) add(name + " in " + std::to_string(rows));
    return result + " of " + std::to_string(table.rows.size()) + " rows";
}

bool has_points(json const& chart) { return !document::tabulate(chart).rows.empty(); }

// One sentence for each crossover of the chart, from left to right. The plot numbers them by the same order:
// by x, those without x last, equal ones as in the document.
std::vector<std::string> crossovers_of(json const& chart) {
    auto const& all = document::items(chart, "crossovers");
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t i = 0; i < all.size(); ++i)
        order.emplace_back(document::number(all[i], "x").value_or(std::numeric_limits<double>::infinity()),
                           i);
    std::ranges::sort(order);
    std::vector<std::string> result;
    for (auto const& [x, i] : order) {
        std::string const sentence = document::string(all[i], "text");
        result.push_back(!sentence.empty() ? sentence : std::isfinite(x) ? "At " + text::quantity(x) : "?");
    }
    return result;
}

std::string chart_element(json const& question, json const& chart, std::string const& position) {
    document::role_map const roles = document::roles_of(question);
    std::string const id = document::string(chart, "id"), title = document::string(chart, "title");
    std::string plot, beside;
    if (has_points(chart))
        plot = "<div class=\"plot\" data-chart=\"" + position + "\" role=\"img\" aria-label=\"" +
               html("Chart: " + title + ". Its values are in the table below.") + "\"></div>\n";
    else
        plot = "<p class=\"muted\">No values.</p>\n";
    if (auto const why = document::strings(chart, "why"); !why.empty()) {
        beside += "<h4>Why</h4>\n";
        for (std::string const& sentence : why) beside += element("p", sentence);
    }
    std::vector<std::string> const crossovers = crossovers_of(chart);
    if (!crossovers.empty())
        beside += "<h4>Crossovers</h4>\n" + list(crossovers, "ol", "class=\"crossovers\"");

    std::string result = "<section class=\"chart\">\n" + element("h3", title);
    result += beside.empty() ? "<div>\n" + plot + "</div>\n"
                             : "<div class=\"beside\">\n<div>\n" + plot + "</div>\n<div class=\"why\">\n" +
                                   beside + "</div>\n</div>\n";

    document::table table = document::tabulate(chart);
    for (json const& object : document::items(question, "tables"))
        if (!id.empty() && document::string(object, "id") == id) table = document::read_table(object);
    if (!table.rows.empty()) {
        std::string const who = winners(table);
        result += "<details><summary>Values as a table" +
                  (who.empty() ? "" : " <span class=\"muted\">Best: " + html(who) + "</span>") +
                  "</summary>\n" + table_element(table, roles, true) + "</details>\n";
    }
    return result + "</section>\n";
}

// A table whose id is that of a chart is shown with the chart, others by themselves.
bool belongs_to_chart(json const& question, json const& table) {
    std::string const id = document::string(table, "id");
    return !id.empty() && std::ranges::any_of(document::items(question, "charts"), [&](json const& chart) {
        return document::string(chart, "id") == id;
    });
}

std::string question_element(json const& question, std::string const& anchor, std::size_t index) {
    std::string result = "<section id=\"" + anchor + "\" class=\"question\">\n";
    result += element("h2", document::string(question, "title"));
    std::string intro;
    for (std::string const& sentence : document::strings(question, "intro"))
        intro += (intro.empty() ? "" : " ") + sentence;
    result += element("p", intro, "class=\"intro\"");
    // The crossovers stand beside their charts; here they would be read a second time.
    std::vector<std::string> findings = document::strings(question, "sentences");
    std::erase_if(findings, [crossovers = document::crossovers(question)](std::string const& sentence) {
        return std::ranges::any_of(
            crossovers, [&](std::string const& text) { return sentence.find(text) != std::string::npos; });
    });
    result += list(findings, "ul", "class=\"findings\"");
    auto const& charts = document::items(question, "charts");
    for (std::size_t i = 0; i < charts.size(); ++i)
        result += chart_element(question, charts[i], std::to_string(index) + "." + std::to_string(i));
    document::role_map const roles = document::roles_of(question);
    for (json const& table : document::items(question, "tables"))
        if (!belongs_to_chart(question, table))
            result += table_element(document::read_table(table), roles, true);
    return result + "</section>\n";
}

std::string body(json const& report) {
    std::string result = "<header>\n<p class=\"name\">cairn-compare</p>\n" + element("h1", page_title);
    std::string summary;
    for (std::string const& sentence : document::summary(report))
        summary += (summary.empty() ? "" : " ") + sentence;
    result += element("p", summary, "class=\"summary\"");
    std::string contents, questions, hint;
    anchors anchors;
    auto const& all = document::items(report, "questions");
    for (std::size_t i = 0; i < all.size(); ++i) {
        std::string const anchor = anchors.make(document::string(all[i], "id"));
        std::string title = document::string(all[i], "title");
        if (title.empty()) title = "Question " + std::to_string(i + 1);
        contents += "<li><a href=\"#" + anchor + "\">" + html(title) + "</a></li>\n";
        questions += question_element(all[i], anchor, i);
    }
    if (!contents.empty()) result += "<nav aria-label=\"Questions\">\n<ol>\n" + contents + "</ol>\n</nav>\n";
    if (questions.find("data-chart=") != std::string::npos)
        hint =
            "Point at a plot for its values. Click a name to hide its line. Drag over an area to zoom in, "
            "double-click to zoom out.";
    result += element("p", hint, "class=\"hint\"") + "</header>\n<main>\n";
    result += questions.empty() ? "<p>There are no results in this document.</p>\n" : questions;
    return result + "</main>\n";
}

// As a JSON text inside a script element: no "<", so nothing in it can end the element or open a comment.
std::string embedded_json(json const& report) {
    std::string const dump = report.dump(-1, ' ', false, json::error_handler_t::replace);
    std::string result;
    result.reserve(dump.size());
    for (char const c : dump) {
        if (c == '<')
            result += "\\u003c";
        else
            result += c;
    }
    return result;
}

std::string value_of(std::string_view name, json const& report) {
    if (name == "title") return html(page_title) + " · cairn-compare";
    if (name == "body") return body(report);
    if (name == "json") return embedded_json(report);
    if (name == "page_css") return std::string(assets::page_css());
    if (name == "page_js") return std::string(assets::page_js());
    if (name == "plot_css") return std::string(assets::plot_css());
    if (name == "plot_js") return std::string(assets::plot_js());
    if (name == "plot_licence") return "/*\n" + std::string(assets::plot_licence()) + "*/";
    return {};
}

}  // namespace

std::string html_page(nlohmann::json const& document) {
    // One pass over the template: what is filled in is not searched for placeholders again.
    std::string page;
    std::string_view rest = assets::page_html();
    for (std::size_t open = rest.find("{{"); open != std::string_view::npos; open = rest.find("{{")) {
        std::size_t const close = rest.find("}}", open);
        page += rest.substr(0, open);
        page += value_of(rest.substr(open + 2, close - open - 2), document);
        rest.remove_prefix(close + 2);
    }
    return page.append(rest);
}

}  // namespace cairn::report
