// SPDX-License-Identifier: MIT
#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "document.hpp"
#include "report.hpp"
#include "text.hpp"

namespace cairn::report {
namespace {

using document::json;

class terminal {
  public:
    terminal(std::ostream& out, bool colour, int width)
        : out_(out), colour_(colour), width_(static_cast<std::size_t>(std::max(width, 24))) {}

    void write(json const& report) {
        for (std::string const& sentence : document::summary(report)) paragraph(sentence, "");
        for (json const& question : document::items(report, "questions")) write_question(question);
    }

  private:
    // One column as it will be printed: all texts clean and short enough, widths in terminal columns.
    struct column {
        std::vector<std::string> title;  // lines
        std::string role;                // "peer", "baseline" or nothing
        std::vector<std::string> texts, spreads;
        std::vector<bool> winners;
        std::size_t text_width = 0, spread_width = 0;  // spread_width 0: no spreads are shown
        bool numeric = true, marked = false;           // marked: room for the winner's "*"

        std::size_t cell_width() const {
            return text_width + (marked ? 1 : 0) + (spread_width == 0 ? 0 : spread_width + 1);
        }
        // A heading over numbers ends where the numbers end, not under the column of their marks.
        std::size_t heading_indent() const { return numeric && marked && spread_width == 0 ? 1 : 0; }
        std::size_t width() const {
            std::size_t widest = text::width(role);
            for (std::string const& line : title) widest = std::max(widest, text::width(line));
            return std::max(cell_width(), widest + heading_indent());
        }
    };

    static constexpr std::size_t gap = 2;

    void write_question(json const& question) {
        std::string const title = text::clean(document::string(question, "title"));
        out_ << '\n';
        for (std::string const& line : text::wrap(title, width_))
            out_ << style("1", line) << '\n' << std::string(text::width(line), '=') << '\n';
        std::string intro;
        for (std::string const& sentence : document::strings(question, "intro")) intro += sentence + " ";
        paragraph(intro, "");

        document::role_map const roles = document::roles_of(question);
        for (json const& object : document::items(question, "tables"))
            write_table(document::read_table(object), roles);

        std::vector<std::string> sentences = document::strings(question, "sentences");
        for (std::string const& crossover : document::crossovers(question))
            if (!document::said(sentences, crossover)) sentences.push_back(crossover);
        if (!sentences.empty()) out_ << '\n';
        for (std::string const& sentence : sentences) paragraph(sentence, "- ");
    }

    void write_table(document::table const& table, document::role_map const& roles) {
        std::string title = table.title;
        if (!table.unit.empty()) title += title.empty() ? table.unit : ", " + table.unit;
        out_ << '\n';
        for (std::string const& line : text::wrap(text::clean(title), width_))
            out_ << style("1", line) << '\n';
        if (table.columns.empty()) return;
        if (table.rows.empty()) {
            out_ << "(no rows)\n";
            return;
        }
        std::vector<column> columns = lay_out(table, roles, true);
        if (total_width(columns) > width_) columns = lay_out(table, roles, false);

        // Blocks: the first column, then as many others as fit; at least one, or nothing would be printed.
        std::size_t from = 1;
        do {
            std::vector<column const*> block{&columns[0]};
            std::size_t used = columns[0].width();
            for (; from < columns.size(); ++from) {
                if (block.size() > 1 && used + gap + columns[from].width() > width_) break;
                used += gap + columns[from].width();
                block.push_back(&columns[from]);
            }
            write_block(block, table.rows.size());
            if (from < columns.size()) out_ << '\n';
        } while (from < columns.size());
    }

    std::vector<column> lay_out(document::table const& table, document::role_map const& roles,
                                bool spreads) const {
        // The first column and any one other always fit a line together.
        std::size_t const widest = (width_ - gap) / 2 - 1;
        bool const marked = std::ranges::any_of(
            table.rows, [](auto const& row) { return std::ranges::any_of(row, &document::cell::winner); });
        std::vector<column> result;
        for (std::size_t i = 0; i < table.columns.size(); ++i) {
            column& c = result.emplace_back();
            c.numeric = document::numeric(table, i);
            c.marked = marked && i > 0;
            for (auto const& row : table.rows) {
                std::string cell = text::clean(row[i].text);
                if (i == 0) {
                    std::string_view const role = document::role(roles, row[i].text);
                    if (!role.empty()) cell.append(" (").append(role).append(")");
                }
                c.texts.push_back(text::shorten(cell, widest));
                std::string const spread = spreads ? text::clean(row[i].spread) : "";
                c.spreads.push_back(spread.empty() ? "" : "(" + text::shorten(spread, widest) + ")");
                c.winners.push_back(row[i].winner);
                c.text_width = std::max(c.text_width, text::width(c.texts.back()));
                c.spread_width = std::max(c.spread_width, text::width(c.spreads.back()));
            }
            c.title = heading(table.columns[i], c.cell_width(), widest);
            c.role = document::role(roles, table.columns[i]);
        }
        return result;
    }

    // A heading wraps at the width of its cells, but not inside a word.
    static std::vector<std::string> heading(std::string const& name, std::size_t cell_width,
                                            std::size_t widest) {
        std::string const title = text::shorten(text::clean(name), widest);
        std::size_t columns = std::max<std::size_t>(cell_width, 8);
        for (std::size_t from = 0; from < title.size();) {
            std::size_t const end = std::min(title.find(' ', from), title.size());
            columns = std::max(columns, text::width(std::string_view(title).substr(from, end - from)));
            from = end + 1;
        }
        return text::wrap(title, columns);
    }

    static std::size_t total_width(std::vector<column> const& columns) {
        std::size_t total = 0;
        for (column const& c : columns) total += c.width() + gap;
        return total - gap;
    }

    void write_block(std::vector<column const*> const& block, std::size_t rows) {
        std::size_t lines = 0;
        bool roles = false;
        for (column const* c : block) {
            lines = std::max(lines, c->title.size());
            roles = roles || !c->role.empty();
        }
        for (std::size_t left = lines; left > 0; --left) {  // titles end on the same line
            write_line(block, "1", [left](column const& c) {
                return heading_line(c, left > c.title.size() ? "" : c.title[c.title.size() - left]);
            });
        }
        if (roles) write_line(block, "2", [](column const& c) { return heading_line(c, c.role); });
        write_line(block, "2", [](column const& c) { return std::string(c.width(), '-'); });
        for (std::size_t row = 0; row < rows; ++row)
            write_line(block, "", [&](column const& c) { return cell(c, row); });
    }

    static std::string heading_line(column const& c, std::string text) {
        text.append(c.heading_indent(), ' ');
        return c.numeric ? text::right(text, c.width()) : text::left(text, c.width());
    }

    std::string cell(column const& c, std::size_t row) const {
        std::string const& value = c.texts[row];
        std::string text = c.numeric ? text::right(value, c.text_width) : value;
        if (c.marked) text += c.winners[row] ? '*' : ' ';
        if (!c.numeric) text = text::left(text, c.text_width + (c.marked ? 1 : 0));
        std::string spread = c.spread_width == 0 ? "" : " " + text::left(c.spreads[row], c.spread_width);
        std::size_t const used = text::width(text) + text::width(spread);
        std::string const space(c.width() - used, ' ');
        text = style(c.winners[row] ? "1" : "", text) + style("2", spread);
        return c.numeric ? space + text : text + space;
    }

    template <class Function>
    void write_line(std::vector<column const*> const& block, char const* code, Function const& cell_of) {
        std::string line;
        for (column const* c : block) {
            if (!line.empty()) line.append(gap, ' ');
            line += cell_of(*c);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out_ << style(code, line) << '\n';
    }

    void paragraph(std::string const& sentence, std::string const& bullet) {
        std::string lead = bullet;
        for (std::string const& line : text::wrap(text::clean(sentence), width_ - bullet.size())) {
            out_ << lead << line << '\n';
            lead.assign(bullet.size(), ' ');
        }
    }

    std::string style(std::string_view code, std::string const& text) const {
        if (!colour_ || code.empty() || text.empty()) return text;
        return "\x1b[" + std::string(code) + "m" + text + "\x1b[0m";
    }

    std::ostream& out_;
    bool colour_;
    std::size_t width_;
};

}  // namespace

void write_terminal(std::ostream& out, nlohmann::json const& document, bool colour, int width) {
    terminal(out, colour, width).write(document);
}

}  // namespace cairn::report
