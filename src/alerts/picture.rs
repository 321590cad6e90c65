//! A picture (SVG) of what Slack would show: messages with their threads, for people without a workspace at hand.

use super::message::{Message, seen};
use serde_json::Value;

const WIDTH: usize = 760;
const LEFT: usize = 24;
/// Letters of a line; the letters of the reader's font are not known here, so it is a guess on the safe side.
const LINE: usize = 84;
const CODE_LINE: usize = 80;
/// Lines of one text; more is cut with a mark, as Slack does under "see more".
const MOST_LINES: usize = 40;

/// A message with what stands in its thread, in Slack's markup.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The message.
    pub message: Message,
    /// The replies.
    pub thread: Vec<String>,
}

/// Draws them, one below the other.
pub fn svg(all: &[Shown]) -> String {
    let mut sheet = Sheet { y: 16, body: String::new() };
    for shown in all {
        sheet.message(&shown.message);
        let top = sheet.y;
        for reply in &shown.thread {
            sheet.text(reply, LEFT + 24);
        }
        if !shown.thread.is_empty() {
            sheet.rect(LEFT + 8, top, 3, sheet.y - top, "#dddddd");
        }
        sheet.y += 12;
        sheet.rect(0, sheet.y, WIDTH, 1, "#dddddd");
        sheet.y += 12;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 0 {WIDTH} {0}\" \
         font-family=\"Lato, Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{1}</svg>\n",
        sheet.y, sheet.body
    )
}

struct Sheet {
    y: usize,
    body: String,
}

impl Sheet {
    fn message(&mut self, message: &Message) {
        self.line("datapulse  APP", LEFT, 15, "#1d1c1d", "bold");
        if message.blocks.is_empty() {
            self.text(&message.text, LEFT);
        }
        for block in &message.blocks {
            let words =
                |part: &Value| part.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
            let several = |name: &str| block.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            match block.get("type").and_then(Value::as_str) {
                Some("header") => {
                    for line in wrap(&block.get("text").map(words).unwrap_or_default(), 62) {
                        self.line(&line, LEFT, 18, "#1d1c1d", "bold");
                    }
                }
                Some("context") => {
                    for element in several("elements") {
                        for line in wrap(&seen(&words(&element)), 100) {
                            self.line(&line, LEFT, 12, "#616061", "normal");
                        }
                    }
                }
                _ => {
                    if let Some(text) = block.get("text").map(words) {
                        self.text(&text, LEFT);
                    }
                    self.fields(&several("fields").iter().map(words).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Facts in two columns.
    fn fields(&mut self, fields: &[String]) {
        for pair in fields.chunks(2) {
            let top = self.y;
            let mut end = top;
            for (column, field) in pair.iter().enumerate() {
                self.y = top;
                for (number, line) in wrap(&seen(field), 40).iter().take(4).enumerate() {
                    let weight = if number == 0 { "bold" } else { "normal" };
                    self.line(line, LEFT + column * WIDTH / 2, 15, "#1d1c1d", weight);
                }
                end = end.max(self.y);
            }
            self.y = end;
        }
    }

    /// A text in Slack's markup; what stands between triple back quotes is code.
    fn text(&mut self, text: &str, x: usize) {
        for (number, part) in text.split("```").enumerate() {
            let code = number % 2 == 1;
            let words = seen(part);
            let lines = wrap(words.trim_matches('\n'), if code { CODE_LINE } else { LINE });
            if lines.is_empty() {
                continue;
            }
            if code {
                let height = lines.len().min(MOST_LINES) * 17 + 10;
                self.rect(x, self.y, WIDTH - x - LEFT, height, "#f8f8f8");
                self.y += 4;
            }
            for line in lines.iter().take(MOST_LINES) {
                if code { self.code(line, x + 6) } else { self.line(line, x, 15, "#1d1c1d", "normal") }
            }
            if lines.len() > MOST_LINES {
                self.line("…", x, 15, "#616061", "normal");
            }
            self.y += 6;
        }
    }

    fn line(&mut self, text: &str, x: usize, size: usize, colour: &str, weight: &str) {
        self.y += size + size / 2;
        let (y, text) = (self.y - size / 3, escape(text));
        self.body.push_str(&format!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{colour}\">{text}</text>\n"
        ));
    }

    fn code(&mut self, text: &str, x: usize) {
        self.y += 17;
        let (y, text) = (self.y - 4, escape(text));
        self.body.push_str(&format!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"12\" font-family=\"Menlo, monospace\" fill=\"#1d1c1d\" xml:space=\"preserve\">{text}</text>\n"
        ));
    }

    fn rect(&mut self, x: usize, y: usize, width: usize, height: usize, colour: &str) {
        let rect =
            format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>\n");
        self.body.push_str(&rect);
    }
}

/// Lines of at most so many letters, broken between words where that is possible.
fn wrap(text: &str, longest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            let mut word: Vec<char> = word.chars().collect();
            if !line.is_empty() && line.chars().count() + word.len() > longest {
                lines.push(std::mem::take(&mut line));
            }
            while word.len() > longest {
                lines.push(word.drain(..longest).collect());
            }
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

fn escape(text: &str) -> String {
    let visible = text.chars().filter(|letter| !letter.is_control());
    visible.collect::<String>().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_break_between_words_and_inside_long_ones() {
        assert_eq!(wrap("one two three\n\nx", 8), ["one two ", "three", "", "x"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    #[test]
    fn a_picture_has_all_words_and_no_markup_from_outside() {
        let blocks = vec![
            json!({"type": "header", "text": {"type": "plain_text", "text": "🔴 <script> & co"}}),
            json!({"type": "section", "fields": [{"type": "mrkdwn", "text": "*Check*\norders"}]}),
            json!({"type": "section", "text": {"type": "mrkdwn", "text": "a &lt;b&gt; <https://x.example|Runbook>"}}),
        ];
        let thread = vec!["rows\n```pid: 1\n  text: select ?```".to_owned()];
        let drawn = svg(&[Shown { message: Message { text: "t".into(), blocks }, thread }]);
        for words in
            ["🔴 &lt;script&gt; &amp; co", ">orders</text>", "a &lt;b&gt; Runbook</text>", "  text: select ?"]
        {
            assert!(drawn.contains(words), "{words}\n{drawn}");
        }
        assert!(!drawn.contains("<script>") && drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
    }
}
