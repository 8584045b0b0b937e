//! The cost of a stamped request by the number of headers and of threads.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{Done, GRID, Point, TEXT, color, series};

const SIZE: (u32, u32) = (760, 400);

/// Lines: the medians. Areas: between the quartiles.
pub fn by_headers(file: &Path, points: &[&Point]) -> Done {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let top = points.iter().map(|point| point.upper).fold(0.0, f64::max) * 1.05;
    let last = points.iter().map(|point| point.count).max().ok_or("no points")? as f64;
    let mut chart = ChartBuilder::on(&root)
        .margin(14)
        .margin_right(120)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("headers of the request")
        .y_desc("time of one request, ns")
        .x_labels(5)
        .y_labels(7)
        .x_label_formatter(&|count| format!("{count:.0}"))
        .y_label_formatter(&|time| format!("{time:.0}"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(TEXT)
        .label_style(("sans-serif", 14, &TEXT))
        .axis_desc_style(("sans-serif", 15, &TEXT))
        .draw()?;
    for name in series(points) {
        let color = color(name);
        let of_way: Vec<_> = points.iter().filter(|point| point.series == name).collect();
        let lower = of_way.iter().map(|point| (point.count as f64, point.lower));
        let upper = of_way.iter().rev().map(|point| (point.count as f64, point.upper));
        chart.draw_series([Polygon::new(lower.chain(upper).collect::<Vec<_>>(), color.mix(0.18))])?;
        let medians = || of_way.iter().map(|point| (point.count as f64, point.median));
        chart.draw_series(LineSeries::new(medians(), color.stroke_width(2)))?;
        chart.draw_series(medians().map(|at| Circle::new(at, 3, color.filled())))?;
        // The name is beside the last point, so that no legend is needed.
        let (count, time) = medians().last().ok_or("a way without points")?;
        let at = chart.backend_coord(&(count, time));
        let style = ("sans-serif", 15, &color).into_text_style(&root).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(name.to_owned(), (at.0 + 10, at.1), style))?;
    }
    root.present()?;
    Ok(())
}

/// Bars: the medians. Lines: the quartiles.
pub fn by_threads(file: &Path, points: &[&Point]) -> Done {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let names = series(points);
    let mut counts: Vec<_> = points.iter().map(|point| point.count).collect();
    counts.sort_unstable();
    counts.dedup();
    let top = points.iter().map(|point| point.upper).fold(0.0, f64::max) * 1.5;
    let mut chart = ChartBuilder::on(&root)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..counts.len() as f64, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .x_desc("threads that send with one token, each on a core of its own")
        .y_desc("time of one request, ns")
        .y_labels(7)
        .y_label_formatter(&|time| format!("{time:.0}"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(TEXT)
        .label_style(("sans-serif", 14, &TEXT))
        .axis_desc_style(("sans-serif", 15, &TEXT))
        .draw()?;
    let width = 0.8 / names.len() as f64;
    for point in points {
        let group = counts.iter().position(|count| *count == point.count).ok_or("a count")? as f64;
        let turn = names.iter().position(|name| *name == point.series).ok_or("a name")?;
        let left = group + 0.1 + width * turn as f64;
        let (middle, right) = (left + width / 2.0, left + width * 0.88);
        let bar = [(left, 0.0), (right, point.median)];
        chart.draw_series([Rectangle::new(bar, color(&point.series).filled())])?;
        chart.draw_series([PathElement::new([(middle, point.lower), (middle, point.upper)], TEXT)])?;
        let at = chart.backend_coord(&(middle, point.upper));
        let style = ("sans-serif", 13, &TEXT).into_text_style(&root).pos(Pos::new(HPos::Center, VPos::Bottom));
        root.draw(&Text::new(format!("{:.0}", point.median), (at.0, at.1 - 3), style))?;
    }
    for (group, count) in counts.iter().enumerate() {
        let at = chart.backend_coord(&(group as f64 + 0.5, 0.0));
        let style = ("sans-serif", 14, &TEXT).into_text_style(&root).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(count.to_string(), (at.0, at.1 + 6), style))?;
    }
    for (turn, name) in names.iter().enumerate() {
        let (x, y) = (92, 22 + 20 * turn as i32);
        root.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], color(name).filled()))?;
        let style = ("sans-serif", 14, &TEXT).into_text_style(&root).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new((*name).to_owned(), (x + 18, y + 7), style))?;
    }
    root.present()?;
    Ok(())
}
