//! Makes the SVG of plotters smaller, without a visible change: lines become relative paths with at most two points in each column
//! of pixels, and elements of the same style become one.

use std::fmt::Write as _;

type Point = (i32, i32);

/// What has not been written yet. Lines and texts of one style are collected, because they do not cover each other.
#[derive(Default)]
struct Writer {
    out: String,
    lines: (String, String),
    texts: (String, String),
}

pub fn compact(svg: &str) -> String {
    let mut writer = Writer::default();
    for element in svg.split('<').skip(1).filter(|element| !element.starts_with('/')) {
        let (head, text) = element.split_once('>').unwrap_or((element, ""));
        let get = |name: &str| attribute(head, name).unwrap_or_default();
        match head.split(' ').next() {
            Some("svg") => writeln!(writer.out, "<svg font-family=\"sans-serif\"{}>", &head["svg".len()..]),
            Some("line") => {
                let ends = [("x1", "y1"), ("x2", "y2")].map(|(x, y)| (number(get(x)) as i32, number(get(y)) as i32));
                writer.line(head, &ends)
            }
            Some("polyline") => {
                let point = |point: &str| point.split_once(',').map(|(x, y)| (number(x) as i32, number(y) as i32));
                let points: Vec<Point> = get("points").split_whitespace().filter_map(point).collect();
                writer.line(head, &if points.len() > 10 { simple(&points) } else { points })
            }
            Some("text") => {
                let size = number(get("font-size"));
                // An ex is about half an em.
                let dy = get("dy");
                let dy = number(dy.trim_end_matches(['e', 'm', 'x'])) * if dy.ends_with("ex") { 0.5 } else { 1.0 };
                let style = format!("font-size=\"{size:.1}\" text-anchor=\"{}\"", get("text-anchor"));
                let turned =
                    attribute(head, "transform").map(|how| format!(" transform=\"{how}\"")).unwrap_or_default();
                let y = number(get("y")) + dy * size;
                writer.text(style, &format!("<text x=\"{}\" y=\"{y:.0}\"{turned}>{}</text>\n", get("x"), text.trim()))
            }
            _ => {
                writer.flush();
                writeln!(writer.out, "<{}>", head.replace(" opacity=\"1\"", ""))
            }
        }
        .expect("a string");
    }
    writer.flush();
    writer.out + "</svg>\n"
}

fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = head.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_default()
}

impl Writer {
    fn line(&mut self, head: &str, points: &[Point]) -> std::fmt::Result {
        let mut style = String::from("fill=\"none\"");
        for (name, default) in [("stroke", ""), ("opacity", "1"), ("stroke-width", "1")] {
            if let Some(value) = attribute(head, name).filter(|value| *value != default) {
                write!(style, " {name}=\"{value}\"")?;
            }
        }
        if self.lines.0 != style {
            self.flush();
            self.lines.0 = style;
        }
        let path = &mut self.lines.1;
        let Some((first, _)) = points.split_first() else { return Ok(()) };
        write!(path, "M{} {}", first.0, first.1)?;
        for pair in points.windows(2) {
            match (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1) {
                (0, dy) => write!(path, "v{dy}")?,
                (dx, 0) => write!(path, "h{dx}")?,
                (dx, dy) => write!(path, "l{dx}{}{dy}", if dy < 0 { "" } else { " " })?,
            }
        }
        Ok(())
    }

    fn text(&mut self, style: String, text: &str) -> std::fmt::Result {
        if self.texts.0 != style {
            self.flush_texts();
            self.texts.0 = style;
        }
        self.texts.1.write_str(text)
    }

    fn flush(&mut self) {
        let (style, path) = std::mem::take(&mut self.lines);
        if !path.is_empty() {
            self.out += &format!("<path {style} d=\"{path}\"/>\n");
        }
        self.flush_texts();
    }

    fn flush_texts(&mut self) {
        let (style, texts) = std::mem::take(&mut self.texts);
        if !texts.is_empty() {
            self.out += &format!("<g {style}>\n{texts}</g>\n");
        }
    }
}

/// The highest and the lowest point of each column. A change by one pixel is not drawn.
fn simple(points: &[Point]) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for column in points.chunk_by(|one, other| one.0 == other.0) {
        let heights = || column.iter().map(|point| point.1);
        let (Some(low), Some(high)) = (heights().min(), heights().max()) else { continue };
        let before = kept.last().map_or(low, |point| point.1);
        let ends = if (before - low).abs() <= (before - high).abs() { [low, high] } else { [high, low] };
        for height in ends {
            add(&mut kept, (column[0].0, height));
        }
    }
    kept
}

fn add(kept: &mut Vec<Point>, (x, mut y): Point) {
    if let Some(last) = kept.last() {
        if (y - last.1).abs() <= 1 {
            y = last.1;
        }
        if (x, y) == *last {
            return;
        }
    }
    if let [.., before, last] = &kept[..]
        && before.1 == y
        && last.1 == y
    {
        kept.pop();
    }
    kept.push((x, y));
}
