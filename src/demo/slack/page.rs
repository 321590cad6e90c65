//! The workspace as a page: channels, messages, and their threads below them. It works without JavaScript.

use super::{File, Message, Workspace};
use serde_json::Value;

const STYLE: &str = include_str!("../../web/slack.css");
/// Messages of a channel, the newest first.
const SHOWN: usize = 30;
/// Characters of a text file.
const LONGEST: usize = 4000;

/// The page.
pub(super) fn html(workspace: &Workspace) -> String {
    let messages = workspace.messages();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><noscript><meta http-equiv=\"refresh\" content=\"3\"></noscript>\
         <title>Slack of the demo</title><style>{STYLE}</style><script src=\"/fresh.js\" defer></script></head><body>\n\
         <header><h1>What Slack would show</h1></header>\n<main>\n"
    );
    for (id, name) in &workspace.channels {
        let posts: Vec<&Message> = messages
            .iter()
            .rev()
            .filter(|one| one.channel == *id && (one.thread.is_none() || one.broadcast))
            .collect();
        html.push_str(&format!("<section><h2># {}</h2>\n", escape(name)));
        if posts.is_empty() {
            html.push_str("<p class=\"none\">no message yet</p>\n");
        }
        for message in posts.iter().take(SHOWN) {
            post(&mut html, workspace, &messages, message);
        }
        html.push_str("</section>\n");
    }
    html.push_str("</main></body></html>\n");
    html
}

fn post(html: &mut String, workspace: &Workspace, all: &[Message], message: &Message) {
    html.push_str("<article>");
    body(html, workspace, message);
    let replies: Vec<&Message> = all.iter().filter(|one| one.thread.as_ref() == Some(&message.ts)).collect();
    if !replies.is_empty() {
        html.push_str(&format!("<details open><summary>{} in the thread</summary>\n", replies.len()));
        for reply in replies {
            html.push_str("<div class=\"reply\">");
            body(html, workspace, reply);
            html.push_str("</div>\n");
        }
        html.push_str("</details>");
    }
    html.push_str("</article>\n");
}

fn body(html: &mut String, workspace: &Workspace, message: &Message) {
    let seconds = message.ts.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let edited = if message.edits > 0 { " (edited)" } else { "" };
    let broadcast = if message.broadcast { " <em>replied to a thread</em>" } else { "" };
    html.push_str(&format!(
        "<p class=\"who\"><b>datapulse</b> <time>{}</time>{edited}{broadcast}</p>",
        at.strftime("%H:%M:%S UTC")
    ));
    if message.blocks.is_empty() && !message.text.is_empty() {
        html.push_str(&format!("<div class=\"text\">{}</div>", markup(&message.text)));
    }
    for block in &message.blocks {
        let text = |part: &Value| part.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        let several = |name: &str| block.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "header" => {
                let words = block.get("text").map(text).unwrap_or_default();
                html.push_str(&format!("<h3>{}</h3>", escape(&words)));
            }
            "context" => {
                let words: Vec<String> = several("elements").iter().map(|part| markup(&text(part))).collect();
                html.push_str(&format!("<p class=\"context\">{}</p>", words.join(" ")));
            }
            _ => {
                if let Some(words) = block.get("text").map(text) {
                    html.push_str(&format!("<div class=\"text\">{}</div>", markup(&words)));
                }
                let fields: Vec<String> = several("fields")
                    .iter()
                    .map(|part| format!("<div>{}</div>", markup(&text(part))))
                    .collect();
                if !fields.is_empty() {
                    html.push_str(&format!("<div class=\"fields\">{}</div>", fields.concat()));
                }
            }
        }
    }
    for id in &message.files {
        if let Some(found) = workspace.file(id) {
            file(html, id, &found);
        }
    }
}

fn file(html: &mut String, id: &str, file: &File) {
    let bytes = file.bytes.as_deref().unwrap_or_default();
    let title = escape(if file.title.is_empty() { &file.name } else { &file.title });
    html.push_str(&format!(
        "<p class=\"file\"><b>{title}</b> <a href=\"/files/{id}\">{}</a></p>",
        escape(&file.name)
    ));
    if bytes.starts_with(b"\x89PNG") {
        html.push_str(&format!("<img src=\"/files/{id}\" alt=\"{}\">", escape(&file.alt)));
    } else {
        let text: String = String::from_utf8_lossy(bytes).chars().take(LONGEST).collect();
        html.push_str(&format!("<pre tabindex=\"0\">{}</pre>", escape(&text)));
    }
}

/// Slack's markup as HTML. Its texts have `&`, `<` and `>` escaped already; links and dates are what stands in brackets.
fn markup(text: &str) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['<', '`', '*', '\n', '"']) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        html.push_str(before);
        let paired = |mark: &str| after.strip_prefix(mark).and_then(|inside| inside.split_once(mark));
        if let Some((code, behind)) = paired("```") {
            html.push_str(&format!(
                "<pre tabindex=\"0\">{}</pre>",
                code.replace('"', "&quot;").replace('<', "&lt;")
            ));
            rest = behind;
        } else if let Some((code, behind)) =
            paired("`").filter(|(code, _)| !code.is_empty() && !code.contains('\n'))
        {
            html.push_str(&format!("<code>{}</code>", code.replace('"', "&quot;").replace('<', "&lt;")));
            rest = behind;
        } else if let Some((bold, behind)) =
            paired("*").filter(|(bold, _)| !bold.is_empty() && !bold.contains('\n'))
        {
            html.push_str(&format!("<b>{}</b>", markup(bold)));
            rest = behind;
        } else if let Some((inside, behind)) =
            after.strip_prefix('<').and_then(|inside| inside.split_once('>'))
        {
            let (address, name) = inside.split_once('|').unwrap_or((inside, inside));
            if address.starts_with("http") {
                html.push_str(&format!(
                    "<a href=\"{}\">{}</a>",
                    address.replace('"', "%22"),
                    name.replace('<', "&lt;")
                ));
            } else if address.starts_with("!date") {
                html.push_str(&format!("<time>{}</time>", name.replace('<', "&lt;")));
            } else {
                // What Slack would take for a mention is to be seen.
                html.push_str(&format!("<mark>&lt;{}&gt;</mark>", inside.replace('<', "&lt;")));
            }
            rest = behind;
        } else {
            let mut letters = after.chars();
            match letters.next() {
                Some('\n') => html.push_str("<br>"),
                Some('<') => html.push_str("&lt;"),
                Some('"') => html.push_str("&quot;"),
                letter => html.extend(letter),
            }
            rest = letters.as_str();
        }
    }
    html + rest
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_html_and_nothing_else_does() {
        for (text, html) in [
            ("*Firing* since <!date^1^{x}|then>", "<b>Firing</b> since <time>then</time>"),
            ("<https://a/?x=1&amp;y|A&amp;B>", "<a href=\"https://a/?x=1&amp;y\">A&amp;B</a>"),
            ("a\n`b*c`", "a<br><code>b*c</code>"),
            ("```x\n&lt;y&gt;```", "<pre tabindex=\"0\">x\n&lt;y&gt;</pre>"),
            ("&lt;!channel&gt; \"", "&lt;!channel&gt; &quot;"),
            ("<!channel>", "<mark>&lt;!channel&gt;</mark>"),
            ("<script", "&lt;script"),
            ("2 * 3", "2 * 3"),
        ] {
            assert_eq!(markup(text), html);
        }
    }
}
