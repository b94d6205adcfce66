// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "assets.hpp"
#include "document.hpp"
#include "text.hpp"

namespace {

namespace report = cairn::report;
namespace text = cairn::report::text;
using json = nlohmann::json;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr char const* evil = "</script><script>alert('1')</script><!-- & \"\x1b[31m\x07\xff";

std::string terminal(json const& document, int width = 100, bool colour = false) {
    std::ostringstream out;
    report::write_terminal(out, document, colour, width);
    return out.str();
}

std::vector<std::string> lines_of(std::string const& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

std::size_t count(std::string const& text, std::string const& part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size()))
        ++found;
    return found;
}

std::string replaced(std::string text, std::string const& part, std::string const& other) {
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + other.size()))
        text.replace(at, part.size(), other);
    return text;
}

json cell(std::string const& text, bool winner = false) {
    json result = {{"text", text}};
    if (winner) result["winner"] = true;
    return result;
}

json document_of(json const& table, json const& charts = json::array()) {
    return {{"questions", {{{"id", "q"}, {"title", "Q"}, {"tables", {table}}, {"charts", charts}}}}};
}

json small_table() {
    return {{"id", "t"},
            {"title", "Speed"},
            {"unit", "ns"},
            {"columns", {"points", "linear", "indexed"}},
            {"rows",
             {{cell("1"), cell("1.25"), cell("1.30", true)},
              {cell("1024"), cell("156"), cell("1.3", true)},
              {cell("262144"), cell("-"), cell("19.9", true)}}}};
}

json chart_of(json const& points, std::string const& role = "ours") {
    return {{"id", "c"},
            {"title", "Chart"},
            {"x", {{"label", "n"}, {"scale", "log"}}},
            {"y", {{"label", "ns"}, {"scale", "log"}}},
            {"series", {{{"name", "indexed"}, {"role", role}, {"points", points}}}}};
}

// What the browser will parse as the data of the page.
json data_of(std::string const& page) {
    std::string const open = "<script type=\"application/json\" id=\"document\">";
    std::size_t const from = page.find(open) + open.size();
    return json::parse(page.substr(from, page.find("</script>", from) - from));
}

// ------------------------------------------------------------------------------------------------- text

TEST(ReportText, CleanTextIsUnchangedAndKeepsItsWidth) {
    for (std::string const name : {"indexed", "ring, 64-bit", "Zürich", "µs", "节点", "…", "🪨"})
        EXPECT_EQ(text::clean(name), name);
    EXPECT_EQ(text::width("indexed"), 7U);
    EXPECT_EQ(text::width("Zürich"), 6U);
    EXPECT_EQ(text::width("节点"), 4U);
    EXPECT_EQ(text::width("e\u0301"), 1U);
    EXPECT_EQ(text::width("🪨"), 2U);
}

TEST(ReportText, NothingThatSteersATerminalSurvivesCleaning) {
    for (int c = 0; c < 0x20; ++c) {
        std::string const cleaned = text::clean(std::string(1, static_cast<char>(c)));
        bool const space = c == '\t' || c == '\n' || c == '\r';
        EXPECT_EQ(cleaned, space ? " " : "\ufffd") << "control character " << c;
    }
    for (std::string const steering : {"\x7f", "\u0085", "\u009b", "\u202e", "\u2066", "\u2028", "\ufeff"})
        EXPECT_EQ(text::clean(steering), "\ufffd");
}

TEST(ReportText, MalformedUtf8IsReplacedByteByByte) {
    EXPECT_EQ(text::clean("a\xffz"), "a\ufffdz");
    EXPECT_EQ(text::clean("\xc0\xaf"), "\ufffd\ufffd");                      // overlong "/"
    EXPECT_EQ(text::clean("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");            // a surrogate
    EXPECT_EQ(text::clean("\xf4\x90\x80\x80"), "\ufffd\ufffd\ufffd\ufffd");  // above U+10FFFF
    EXPECT_EQ(text::clean("\xe7\x82"), "\ufffd\ufffd");                      // cut short
}

TEST(ReportText, CleaningRandomBytesGivesValidTextThatIsAlreadyClean) {
    std::mt19937 random(20);
    for (int round = 0; round < 2000; ++round) {
        std::string bytes(random() % 40, '\0');
        for (char& c : bytes) c = static_cast<char>(random() % 3 == 0 ? random() % 128 : random() % 256);
        std::string const once = text::clean(bytes);
        EXPECT_EQ(text::clean(once), once) << "round " << round;
        EXPECT_NO_THROW(static_cast<void>(json(once).dump()))
            << "round " << round;  // throws on invalid UTF-8
        EXPECT_EQ(once.find('\x1b'), std::string::npos);
    }
}

TEST(ReportText, ShortenedTextFitsAndIsCutBetweenCharacters) {
    std::string const name = "Zürich 节点 🪨 end";
    for (std::size_t columns = 1; columns < 24; ++columns) {
        std::string const cut = text::shorten(name, columns);
        EXPECT_LE(text::width(cut), columns);
        EXPECT_EQ(text::clean(cut), cut);
        EXPECT_EQ(cut == name, text::width(name) <= columns);
    }
}

TEST(ReportText, WrappedLinesFitAndLoseNothing) {
    std::mt19937 random(21);
    for (int round = 0; round < 500; ++round) {
        std::string sentence, letters;
        for (int word = 0; word < 12; ++word) {
            std::string const w(random() % 15 + 1, static_cast<char>('a' + random() % 26));
            sentence += w + (random() % 4 == 0 ? "  " : " ");
            letters += w;
        }
        std::size_t const columns = random() % 30 + 1;
        std::string joined;
        for (std::string const& line : text::wrap(sentence, columns)) {
            EXPECT_LE(text::width(line), columns);
            EXPECT_FALSE(line.empty());
            joined += line;
        }
        std::erase(joined, ' ');
        EXPECT_EQ(joined, letters) << "round " << round << ", columns " << columns;
    }
    EXPECT_TRUE(text::wrap("", 10).empty());
    EXPECT_EQ(text::wrap("节点", 1).size(), 2U);  // wider than the line: taken whole
}

TEST(ReportText, HtmlEscapesWhatHtmlReads) {
    EXPECT_EQ(text::html("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}

TEST(ReportText, NumbersHaveThreeDigitsAndGroups) {
    std::vector<std::pair<double, std::string>> const cases{
        {0, "0"},           {1, "1.00"},         {1.234, "1.23"},     {9.996, "10.0"},   {99.96, "100"},
        {999.6, "1,000"},   {123456, "123,000"}, {0.0098, "0.00980"}, {0.99951, "1.00"}, {-1.5, "-1.50"},
        {1e-9, "1.00e-09"}, {2e15, "2.00e+15"},  {nan, "-"},          {infinity, "-"},   {-infinity, "-"}};
    for (auto const& [value, expected] : cases) EXPECT_EQ(text::number(value), expected) << value;
    EXPECT_EQ(text::quantity(262144), "262,144");
    EXPECT_EQ(text::quantity(999), "999");
    EXPECT_EQ(text::quantity(2.5), "2.50");
    EXPECT_EQ(text::quantity(nan), "-");
    EXPECT_EQ(text::grouped(0), "0");
    EXPECT_EQ(text::grouped(1234567), "1,234,567");
}

// ---------------------------------------------------------------------------------------------- terminal

TEST(ReportTerminal, NumbersEndInTheSameColumnAndTheWinnerIsMarked) {
    std::string const out = terminal(document_of(small_table()));
    EXPECT_NE(out.find("Speed, ns\n"
                       "points  linear   indexed\n"
                       "------  -------  --------\n"
                       "     1    1.25      1.30*\n"
                       "  1024     156       1.3*\n"
                       "262144       -      19.9*\n"),
              std::string::npos)
        << out;
}

TEST(ReportTerminal, ColourChangesNothingButTheStyle) {
    json const document = document_of(small_table());
    std::string const coloured = terminal(document, 100, true);
    EXPECT_NE(coloured.find("\x1b[1m 1.3*\x1b[0m"), std::string::npos) << coloured;
    std::string plain = coloured;
    for (std::string const code : {"\x1b[0m", "\x1b[1m", "\x1b[2m"}) plain = replaced(plain, code, "");
    EXPECT_EQ(plain, terminal(document, 100, false));
}

TEST(ReportTerminal, NoLineIsWiderThanAsked) {
    std::mt19937 random(22);
    std::vector<std::string> const words{
        "linear", "a name of words", "节点节点节点节点节点", std::string(90, 'w'), "x", "1.25"};
    auto const any = [&] { return words[random() % words.size()]; };
    for (int round = 0; round < 300; ++round) {
        json table = {{"title", any() + " " + any()},
                      {"unit", any()},
                      {"columns", json::array()},
                      {"rows", json::array()}};
        std::size_t const columns = random() % 9;
        for (std::size_t i = 0; i < columns; ++i) table["columns"].push_back(any());
        for (std::size_t row = random() % 5; row > 0; --row) {
            json cells = json::array();
            for (std::size_t i = 0; i < columns; ++i) {
                cells.push_back(cell(any(), random() % 4 == 0));
                if (random() % 3 == 0) cells.back()["spread"] = any();
            }
            table["rows"].push_back(cells);
        }
        json document = document_of(table);
        document["questions"][0]["sentences"] = {any() + " " + any() + " " + any()};
        document["machine"] = {{"cpu", any()}};
        int const width = static_cast<int>(random() % 120);
        for (std::string const& line : lines_of(terminal(document, width)))
            EXPECT_LE(text::width(line), std::max(width, 24)) << "round " << round << ": " << line;
    }
}

TEST(ReportTerminal, AWideTableContinuesInBlocksThatRepeatTheFirstColumn) {
    json table = {{"title", "Wide"}, {"columns", {"points"}}, {"rows", {{cell("16")}, {cell("64")}}}};
    for (int i = 0; i < 12; ++i) {
        table["columns"].push_back("strategy" + std::to_string(i));
        for (json& row : table["rows"]) row.push_back(cell(std::to_string(100 + i)));
    }
    std::string const out = terminal(document_of(table), 60);
    EXPECT_EQ(count(out, "points  "), 3U) << out;  // five columns to a block
    EXPECT_EQ(count(out, "\n    16  "), 3U) << out;
    for (int i = 0; i < 12; ++i) {
        EXPECT_EQ(count(out, " strategy" + std::to_string(i) + "\n") +
                      count(out, " strategy" + std::to_string(i) + "  "),
                  1U);
        EXPECT_EQ(count(out, " " + std::to_string(100 + i)), 2U) << out;
    }
}

TEST(ReportTerminal, SpreadsAreShownOnlyWhereTheTableStillFitsOneBlock) {
    json table = small_table();
    table["rows"][0][1]["spread"] = "+-0.05";
    EXPECT_NE(terminal(document_of(table), 80).find("1.25  (+-0.05)"), std::string::npos)
        << terminal(document_of(table), 80);
    EXPECT_EQ(terminal(document_of(table), 28).find("+-"), std::string::npos);
}

TEST(ReportTerminal, PeersAndBaselinesAreNamedAsSuch) {
    json const charts = json::array({chart_of({{{"x", 1}, {"y", 1}}}, "peer")});
    std::string const columns = terminal(document_of(small_table(), charts));
    EXPECT_NE(columns.find("points  linear   indexed\n                    peer\n"), std::string::npos)
        << columns;
    json const table = {{"columns", {"router", "ns"}}, {"rows", {{cell("indexed"), cell("1")}}}};
    std::string const rows = terminal(document_of(table, charts));
    EXPECT_NE(rows.find("indexed (peer)"), std::string::npos) << rows;
}

TEST(ReportTerminal, EachCrossoverIsSaidOnce) {
    json document = document_of(small_table(), json::array({chart_of(json::array())}));
    document["questions"][0]["sentences"] = {"one", "two"};
    document["questions"][0]["charts"][0]["crossovers"] = {{{"x", 3}, {"text", "two"}},
                                                           {{"x", 4}, {"text", "three"}}};
    EXPECT_NE(terminal(document).find("\n- one\n- two\n- three\n"), std::string::npos) << terminal(document);
}

TEST(ReportTerminal, ACrossoverThatASentenceContainsIsNotRepeated) {
    json document = document_of(small_table(), json::array({chart_of(json::array())}));
    document["questions"][0]["sentences"] = {"latency: a overtakes b at 5.", "c is flat."};
    document["questions"][0]["charts"][0]["crossovers"] = {{{"x", 5}, {"text", "a overtakes b at 5"}}};
    EXPECT_EQ(count(terminal(document), "a overtakes b"), 1U);
    // On the page it stands beside its chart, and only there (and in the data).
    std::string const page = report::html_page(document);
    std::string const prose = page.substr(0, page.find("id=\"document\""));
    EXPECT_EQ(count(prose, "<li>a overtakes b at 5</li>"), 1U);
    EXPECT_EQ(count(prose, "a overtakes b"), 1U);
    EXPECT_EQ(count(prose, "<li>c is flat.</li>"), 1U);
}

TEST(ReportTerminal, NoControlCharacterOfTheUserReachesTheTerminal) {
    json const table = {{"title", evil},
                        {"unit", evil},
                        {"columns", {evil, evil}},
                        {"rows", {{cell(evil, true), cell(evil)}}}};
    json document = document_of(table);
    json& question = document["questions"][0];
    question["title"] = question["intro"] = question["sentences"] = json::array({evil});
    question["title"] = evil;
    document["keys"] = {{"source", evil}, {"count", 3}};
    document["notes"] = {evil};
    std::string const out = terminal(document);
    EXPECT_NE(out.find("alert"), std::string::npos);
    for (char const c : out)
        EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
    EXPECT_EQ(text::clean(out), replaced(out, "\n", " "));
}

// -------------------------------------------------------------------------------------------------- page

TEST(ReportPage, TemplateIsFilledAndNeedsNoOtherFile) {
    std::string const page =
        report::html_page(document_of(small_table(), json::array({chart_of({{{"x", 1}, {"y", 2}}})})));
    EXPECT_TRUE(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    EXPECT_TRUE(page.ends_with("</html>\n"));
    for (std::string const name :
         {"title", "body", "json", "page_css", "page_js", "plot_css", "plot_js", "plot_licence"})
        EXPECT_EQ(page.find("{{" + name + "}}"), std::string::npos) << name;
    EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
    EXPECT_NE(page.find("Permission is hereby granted"), std::string::npos);  // uPlot's licence travels along
    EXPECT_EQ(count(page, " src="), 0U);
}

TEST(ReportPage, EmbeddedScriptsCannotEndTheirElement) {
    namespace assets = cairn::report::assets;
    for (std::string_view const script : {assets::page_js(), assets::plot_js(), assets::plot_licence()}) {
        EXPECT_FALSE(script.empty());
        EXPECT_EQ(script.find("</script"), std::string_view::npos);
        EXPECT_EQ(script.find("<!--"), std::string_view::npos);
    }
    EXPECT_EQ(assets::plot_css().find("</style"), std::string_view::npos);
    EXPECT_EQ(assets::page_css().find("</style"), std::string_view::npos);
}

TEST(ReportPage, UserTextIsEscapedWhereverItStands) {
    json chart = chart_of({{{"x", 1}, {"y", 2}}}, "peer");
    for (char const* key : {"id", "title"}) chart[key] = evil;
    chart["x"]["label"] = chart["y"]["label"] = chart["series"][0]["name"] = evil;
    chart["why"] = {evil};
    chart["crossovers"] = {{{"x", 1}, {"text", evil}}};
    json const table = {{"id", evil},
                        {"title", evil},
                        {"unit", evil},
                        {"columns", {evil, evil}},
                        {"rows", {{cell(evil), cell(evil, true)}}}};
    json document = document_of(table, json::array({chart}));
    json& question = document["questions"][0];
    question["tables"].push_back(table);
    question["tables"][1]["id"] = "by itself";
    question["tables"][1]["rows"][0][1]["spread"] = evil;
    for (char const* key : {"id", "title"}) question[key] = evil;
    question["intro"] = question["sentences"] = document["notes"] = json::array({evil});
    for (char const* key : {"cairn", "date"}) document[key] = evil;
    document["machine"] = {{"cpu", evil}, {"os", evil}, {"cores", 2}};
    document["build"] = {{"compiler", evil}, {"flags", evil}, {"type", evil}};
    document["keys"] = document["nodes"] = {{"source", evil}, {"count", 2}};

    std::string const page = report::html_page(document);
    std::string const harmless = report::html_page(json::object());
    EXPECT_GT(count(page, "&lt;script&gt;alert"), 20U);
    EXPECT_EQ(page.find("<script>alert"), std::string::npos);
    EXPECT_EQ(count(page, "<script"), count(harmless, "<script"));
    EXPECT_EQ(count(page, "</script"), count(harmless, "</script"));
    EXPECT_EQ(count(page, "<!--"), count(harmless, "<!--"));
    EXPECT_EQ(page.find('\x1b'), std::string::npos);
    EXPECT_EQ(text::clean(page), replaced(page, "\n", " "));
}

TEST(ReportPage, PlaceholdersInUserTextStayText) {
    json document = document_of(small_table());
    document["notes"] = {"{{json}} {{page_js}}"};
    EXPECT_EQ(count(report::html_page(document), "{{json}} {{page_js}}"), 2U);  // the prose and the data
}

TEST(ReportPage, TheDataInThePageIsTheDocument) {
    json document = document_of(small_table(), json::array({chart_of({{{"x", 1}, {"y", 2}}})}));
    document["notes"] = {"</script><!-- \u2028"};
    EXPECT_EQ(data_of(report::html_page(document)), document);
}

TEST(ReportPage, NanAndInfinityAreAbsentValues) {
    json const chart = chart_of({{{"x", 1}, {"y", nan}},
                                 {{"x", 2}, {"y", 3.5}, {"lo", nan}, {"hi", infinity}},
                                 {{"x", infinity}, {"y", 1}}});
    std::string const page = report::html_page(document_of(json::object(), json::array({chart})));
    EXPECT_NE(page.find("<th scope=\"row\">2</th><td>3.50</td>"), std::string::npos);
    EXPECT_EQ(count(page, "<th scope=\"row\">"), 1U);
    EXPECT_TRUE(data_of(page)["questions"][0]["charts"][0]["series"][0]["points"][0]["y"].is_null());
}

TEST(ReportPage, EachChartHasItsValuesAsATable) {
    json chart = chart_of({{{"x", 1024}, {"y", 1.5}, {"lo", 1.4}, {"hi", 1.75}}, {{"x", 16}, {"y", 1200}}});
    chart["series"].push_back({{"name", "tree"}, {"points", {{{"x", 16}, {"y", 9}}}}});
    std::string const page = report::html_page(document_of(json::object(), json::array({chart})));
    EXPECT_NE(
        page.find("<tr><th scope=\"row\">16</th><td>1,200</td><td>9.00</td></tr>\n"
                  "<tr><th scope=\"row\">1,024</th><td>1.50<small>1.40–1.75</small></td><td>-</td></tr>\n"),
        std::string::npos);
    // A table of the same id stands for it.
    json table = small_table();
    table["id"] = "c";
    std::string const given = report::html_page(document_of(table, json::array({chart})));
    EXPECT_EQ(given.find("1,024"), std::string::npos);
    EXPECT_EQ(count(given, "<table"), 1U);
    EXPECT_NE(given.find("Best: indexed 1–262144"), std::string::npos);
}

TEST(ReportPage, WinnersAreMarkedByMoreThanColour) {
    std::string const page = report::html_page(document_of(small_table()));
    EXPECT_EQ(count(page, "<td class=\"wins\">"), 3U);
    EXPECT_EQ(count(page, "<span class=\"mark\" title=\"best of its row\">*</span>"), 3U);
    EXPECT_EQ(count(page, "1.30<span class=\"mark\""), 1U);
}

TEST(ReportPage, CrossoversAreListedFromLeftToRight) {
    json chart = chart_of({{{"x", 1}, {"y", 2}}});
    chart["crossovers"] = {
        {{"text", "no x"}}, {{"x", 90}, {"text", "second"}}, {{"x", 3}, {"text", "first"}}, {{"x", 512}}};
    std::string const page = report::html_page(document_of(json::object(), json::array({chart})));
    EXPECT_NE(page.find("<ol class=\"crossovers\">\n<li>first</li>\n<li>second</li>\n<li>At 512</li>\n<li>no "
                        "x</li>\n</ol>"),
              std::string::npos);
}

TEST(ReportPage, SpreadsAreSetInType) {
    json table = small_table();
    table["rows"][0][1]["spread"] = "+-0.05";
    table["rows"][1][1]["spread"] = "150 to 161";
    std::string const page = report::html_page(document_of(table));
    EXPECT_NE(page.find("<td>1.25<small>±0.05</small></td>"), std::string::npos);
    EXPECT_NE(page.find("<td>156<small>150–161</small></td>"), std::string::npos);
}

TEST(ReportPage, AnchorsAreUniqueAndTheContentsPointAtThem) {
    json document;
    for (char const* id : {"lookup", "lookup", "", "a b<c"})
        document["questions"].push_back({{"id", id}, {"title", "T"}});
    std::string const page = report::html_page(document);
    for (std::string const anchor : {"q-lookup", "q-lookup-2", "q-", "q-a-b-c"}) {
        EXPECT_EQ(count(page, "<a href=\"#" + anchor + "\">"), 1U) << anchor;
        EXPECT_EQ(count(page, "<section id=\"" + anchor + "\""), 1U) << anchor;
    }
}

TEST(ReportPage, SummaryNamesMachineCompilerKeysAndRounds) {
    json const document = {
        {"cairn", "0.1.0"},
        {"date", "2026-11-23T22:00:00Z"},
        {"machine",
         {{"cpu", "AMD EPYC"},
          {"cores", 2},
          {"mhz", 2450},
          {"l1d_kib", 32},
          {"l3_kib", 32768},
          {"os", "Linux 6.1"}}},
        {"build", {{"compiler", "g++ 12.2.0"}, {"flags", "-O2 -DNDEBUG"}, {"type", "Release"}}},
        {"keys", {{"source", "words.txt"}, {"count", 104334}}},
        {"nodes", {{"source", "generated"}, {"count", 1}}},
        {"rounds", 9},
        {"quick", true}};
    for (std::string const& out : {report::html_page(document), terminal(document, 500)}) {
        for (std::string const part :
             {"cairn 0.1.0, measured 2026-11-23 22:00 UTC on AMD EPYC: 2 cores at 2,450 MHz, 32 KiB L1d, 32 "
              "MiB L3, Linux 6.1.",
              "Compiled by g++ 12.2.0 with -O2 -DNDEBUG (Release).",
              "104,334 keys from words.txt; 1 generated node.", "median of 9 rounds", "quick run"})
            EXPECT_NE(out.find(part), std::string::npos) << part;
    }
}

// --------------------------------------------------------------------------------------------- tolerance

TEST(Report, EmptyAndMisshapenDocumentsAreReported) {
    std::vector<json> documents{nullptr,
                                7,
                                "text",
                                json::array(),
                                json::object(),
                                {{"questions", nullptr}},
                                {{"questions", {1, nullptr, "x"}}}};
    documents.push_back(document_of({{"columns", json::array()}, {"rows", json::array()}}));
    documents.push_back(document_of({{"columns", {"a", "b"}}, {"rows", json::array()}}));
    documents.push_back(
        document_of({{"columns", {"a"}}, {"rows", {{cell("1"), cell("2"), cell("3")}, json::array(), 7}}}));
    documents.push_back(document_of(7, {7, nullptr, chart_of(json::array()), chart_of("no points")}));
    for (json const& document : documents) {
        EXPECT_NO_THROW(terminal(document)) << document;
        std::string const page = report::html_page(document);
        EXPECT_TRUE(page.ends_with("</html>\n")) << document;
        EXPECT_EQ(data_of(page), document);
    }
}

TEST(Report, RaggedRowsBecomeARectangle) {
    report::document::table const table = report::document::read_table(
        {{"columns", {"a"}}, {"rows", {{cell("1"), cell("2"), cell("")}, json::array(), 7}}});
    EXPECT_EQ(table.columns.size(), 3U);
    ASSERT_EQ(table.rows.size(), 3U);
    for (auto const& row : table.rows) {
        ASSERT_EQ(row.size(), 3U);
        EXPECT_EQ(row[2].text, "-");
    }
}

TEST(Report, ASoleContestantIsNoWinner) {
    json const table = {{"columns", {"points", "ring"}}, {"rows", {{cell("1"), cell("2.94", true)}}}};
    EXPECT_EQ(terminal(document_of(table)).find('*'), std::string::npos);
    EXPECT_EQ(report::html_page(document_of(table)).find("class=\"wins\""), std::string::npos);
}

// Any value of a document may be missing or of another type: one at a time is replaced.
TEST(Report, AnyFieldMayBeOfAnyType) {
    json document =
        document_of(small_table(), json::array({chart_of({{{"x", 1}, {"y", 2}, {"lo", 1}, {"hi", 3}}})}));
    document["machine"] = {{"cpu", "c"}, {"cores", 2}};
    document["keys"] = {{"source", "s"}, {"count", 3}};
    document["questions"][0]["charts"][0]["crossovers"] = {{{"x", 1}, {"y", 2}, {"text", "t"}}};
    std::vector<json> const others{
        nullptr, true, -1, 1e300, nan, "s", json::array(), json::array({1, "x"}), json::object()};
    json const flat = document.flatten();
    for (auto const& [pointer, value] : flat.items()) {
        for (auto path = json::json_pointer(pointer); !path.empty(); path = path.parent_pointer()) {
            for (json const& other : others) {
                json changed = document;
                changed[path] = other;
                EXPECT_NO_THROW(terminal(changed)) << path << " = " << other;
                EXPECT_NO_THROW(static_cast<void>(report::html_page(changed))) << path << " = " << other;
            }
        }
    }
}

TEST(Report, HugeNamesAreCutInTheTerminalAndWholeOnThePage) {
    std::string const name(20000, 'n');
    json const table = {
        {"title", "T"}, {"columns", {"points", name}}, {"rows", {{cell(name), cell("1", true)}}}};
    json const document = document_of(table);
    EXPECT_LT(terminal(document, 80).size(), 600U);
    EXPECT_NE(terminal(document, 80).find("n…"), std::string::npos);
    EXPECT_NE(report::html_page(document).find(">" + name + "<"), std::string::npos);
}

}  // namespace
