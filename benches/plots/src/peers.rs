//! How many times as long as this crate each of the others takes.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{Done, GRID, MIDDLE_BLUE, ORANGE, Point, TEXT, series};

const SIZE: (u32, u32) = (980, 350);
const NAMES: i32 = 172;
const ROW: i32 = 27;
const TOP: i32 = 46;
/// Where the axis ends.
const LIMIT: f64 = 4.5;

/// A panel for each measured call, a row for each crate.
pub fn draw(file: &Path, points: &[Point]) -> Done {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let all: Vec<_> = points.iter().collect();
    let crates = series(&all);
    let mut panels: Vec<&str> = Vec::new();
    for point in points {
        if !panels.contains(&point.plot.as_str()) {
            panels.push(&point.plot);
        }
    }
    let style = |size: i32, pos| ("sans-serif", size, &TEXT).into_text_style(&root).pos(pos);
    for (row, name) in crates.iter().enumerate() {
        let y = TOP + ROW * row as i32 + ROW / 2;
        root.draw(&Text::new((*name).to_owned(), (NAMES - 10, y), style(14, Pos::new(HPos::Right, VPos::Center))))?;
    }
    let width = (SIZE.0 as i32 - NAMES - 8) / panels.len() as i32;
    let bottom = TOP + ROW * crates.len() as i32;
    for (turn, panel) in panels.iter().enumerate() {
        let left = NAMES + width * turn as i32;
        let x = |times: f64| left + (times.min(LIMIT) / LIMIT * f64::from(width - 62)) as i32;
        root.draw(&Text::new((*panel).to_owned(), (left, 14), style(15, Pos::new(HPos::Left, VPos::Top))))?;
        for times in [0, 1, 2, 3, 4] {
            let at = x(f64::from(times));
            root.draw(&PathElement::new([(at, TOP), (at, bottom)], GRID))?;
            let pos = Pos::new(HPos::Center, VPos::Top);
            root.draw(&Text::new(times.to_string(), (at, bottom + 6), style(13, pos)))?;
        }
        for (row, name) in crates.iter().enumerate() {
            if !points.iter().any(|point| point.plot == *panel && point.series == *name) {
                let at = (x(1.0) + 6, TOP + ROW * row as i32 + ROW / 2);
                root.draw(&Text::new("not returned", at, style(13, Pos::new(HPos::Left, VPos::Center))))?;
            }
        }
        for point in points.iter().filter(|point| point.plot == *panel) {
            let row = crates.iter().position(|name| *name == point.series).ok_or("a crate")? as i32;
            let (top, middle) = (TOP + ROW * row + 5, TOP + ROW * row + ROW / 2);
            // The file has this crate's time divided by the other's.
            let (fewest, times, most) = (1.0 / point.upper, 1.0 / point.median, 1.0 / point.lower);
            let color = if fewest > 1.0 { MIDDLE_BLUE } else { ORANGE };
            root.draw(&Rectangle::new([(left, top), (x(times), top + ROW - 10)], color.filled()))?;
            if most < LIMIT {
                root.draw(&PathElement::new([(x(fewest), middle), (x(most), middle)], TEXT))?;
            }
            let label = if times < 10.0 { format!("{times:.2}") } else { format!("{times:.0}") };
            let end = x(most.clamp(1.0, LIMIT)) + 6;
            root.draw(&Text::new(label, (end, middle), style(13, Pos::new(HPos::Left, VPos::Center))))?;
        }
        let at = x(1.0);
        root.draw(&PathElement::new([(at, TOP - 4), (at, bottom)], TEXT.stroke_width(2)))?;
    }
    let caption = "times as long as this crate (1: the same)";
    let at = (NAMES + (SIZE.0 as i32 - NAMES) / 2, bottom + 30);
    root.draw(&Text::new(caption, at, style(15, Pos::new(HPos::Center, VPos::Top))))?;
    root.present()?;
    Ok(())
}
