//! Draws the plots of docs/performance.md from the measurements that `ratios` and `peers` write.
//!
//!     plots FILE FOLDER    the measurements, and where the plots go

mod costs;
mod peers;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use plotters::style::RGBColor;

type Done = Result<(), Box<dyn Error>>;

const GREY: RGBColor = RGBColor(0x7f, 0x86, 0x8e);
const ORANGE: RGBColor = RGBColor(0xd9, 0x8a, 0x1c);
const LIGHT_ORANGE: RGBColor = RGBColor(0xf0, 0xc8, 0x8a);
const BLUE: RGBColor = RGBColor(0x1f, 0x3d, 0x8a);
const MIDDLE_BLUE: RGBColor = RGBColor(0x3a, 0x8f, 0xb7);
const LIGHT_BLUE: RGBColor = RGBColor(0x9d, 0xb4, 0xe0);
const TEXT: RGBColor = RGBColor(0x30, 0x34, 0x38);
const GRID: RGBColor = RGBColor(0xdd, 0xe0, 0xe4);

/// The quartiles of one measurement.
struct Point {
    plot: String,
    series: String,
    /// The number of headers or threads. 0 for a peer.
    count: usize,
    lower: f64,
    median: f64,
    upper: f64,
}

impl Point {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (plot, series) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let count = fields.next()?.parse().ok()?;
        let [lower, median, upper] = [fields.next()?, fields.next()?, fields.next()?].map(|field| field.parse().ok());
        Some(Self { plot, series, count, lower: lower?, median: median?, upper: upper? })
    }
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [file, folder] = words.as_slice() else {
        eprintln!("plots FILE FOLDER");
        return ExitCode::from(2);
    };
    match draw(file, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plots: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(file: &str, folder: &Path) -> Done {
    let text = std::fs::read_to_string(file)?;
    let points: Option<Vec<_>> = text.lines().map(Point::parse).collect();
    let points = points.ok_or("the file has an unexpected line")?;
    let of = |plot: &str| points.iter().filter(|point| point.plot == plot).collect::<Vec<_>>();
    if !of("headers").is_empty() {
        costs::by_headers(&folder.join("cost-by-headers.svg"), &of("headers"))?;
        costs::by_threads(&folder.join("cost-by-threads.svg"), &of("threads"))?;
    } else {
        peers::draw(&folder.join("peers.svg"), &points)?;
    }
    Ok(())
}

/// A way has the same color in all plots.
fn color(way: &str) -> RGBColor {
    match way {
        "default" => BLUE,
        "default, cloned" => LIGHT_BLUE,
        "replay off" => MIDDLE_BLUE,
        "static header" => ORANGE,
        "static header, cloned" => LIGHT_ORANGE,
        _ => GREY,
    }
}

/// The names of the series, in the order of the file.
fn series<'a>(points: &[&'a Point]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        if !names.contains(&point.series.as_str()) {
            names.push(&point.series);
        }
    }
    names
}
