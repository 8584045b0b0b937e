//! The days as an SVG: each scenario over 24 hours, and two of them enlarged.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::compact::compact;
use crate::{Day, HOUR, JITTER, LONG_OUTAGE, SHORT_OUTAGE, WITHOUT_RETRY_AFTER};

type Drawn<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Done = Result<(), Box<dyn Error>>;

const BUSIEST: RGBColor = RGBColor(200, 80, 20);
const MEAN: RGBColor = RGBColor(20, 90, 170);
const OUTAGE: RGBColor = RGBColor(150, 150, 150);
const MARK: RGBColor = RGBColor(20, 130, 60);

pub fn draw(file: &str, days: &[Day], replicas: u32) -> Done {
    let mut svg = String::new();
    panels(SVGBackend::with_string(&mut svg, (1400, 1260)).into_drawing_area(), days, replicas)?;
    Ok(std::fs::write(file, compact(&svg))?)
}

fn panels(root: Drawn<'_>, days: &[Day], replicas: u32) -> Done {
    root.fill(&WHITE)?;
    let title = format!(
        "Token requests at the issuer: {replicas} processes, tokens of 30 min, outages at 12:00 (10 min) and 18:00 (30 min)"
    );
    let root = root.titled(&title, ("sans-serif", 22))?;
    let panels = root.split_evenly((3, 2));
    // The scenarios with `Retry-After` differ from the others only in the outages.
    for (panel, day) in panels.iter().zip(days).take(4) {
        whole_day(panel, day, replicas)?;
    }
    let of = |together| days.iter().find(|day| day.scenario.jitter && day.scenario.together == together);
    if let (Some(together), Some(random)) = (of(true), of(false)) {
        let (limit, label) = (1.2 * f64::from(replicas) / f64::from(JITTER), "1.2 N / jitter width");
        let caption = format!("{}: the first waves", together.title());
        near(&panels[4], together, &caption, 300..2 * HOUR + 300, &[], limit, label)?;
        let (limit, label) = (f64::from(replicas) / WITHOUT_RETRY_AFTER, "N / 13");
        let caption = format!("{}: the outage of 30 min", random.title());
        let seconds = LONG_OUTAGE.start - 600..LONG_OUTAGE.end + HOUR;
        near(&panels[5], random, &caption, seconds, &[LONG_OUTAGE], limit, label)?;
    }
    root.present()?;
    Ok(())
}

fn hours(second: usize) -> f64 {
    second as f64 / HOUR as f64
}

/// The busiest second and the mean of each minute, on a logarithmic scale.
fn whole_day(panel: &Drawn<'_>, day: &Day, replicas: u32) -> Done {
    let top = f64::from(replicas) * 2.0;
    let mut chart = ChartBuilder::on(panel)
        .caption(day.title(), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(75)
        .build_cartesian_2d(0.0..24.0, (0.5..top).log_scale())?;
    for outage in [SHORT_OUTAGE, LONG_OUTAGE] {
        chart.draw_series([Rectangle::new(
            [(hours(outage.start), 0.5), (hours(outage.end), top)],
            OUTAGE.mix(0.35).filled(),
        )])?;
    }
    chart
        .configure_mesh()
        .x_desc("hour of the day")
        .y_desc("token requests a second")
        .x_labels(13)
        .x_label_formatter(&|hour| format!("{hour:.0}"))
        .y_label_formatter(&|rate| if *rate < 1.0 { rate.to_string() } else { format!("{rate:.0}") })
        .max_light_lines(0)
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    let minutes = || day.seconds.chunks(60).enumerate();
    let at = |minute: usize| hours(minute * 60 + 30);
    let busiest = minutes().map(|(minute, seconds)| {
        let most = seconds.iter().copied().max().unwrap_or(0);
        (at(minute), f64::from(most).max(0.5))
    });
    let mean = minutes().map(|(minute, seconds)| {
        let sum: u32 = seconds.iter().sum();
        (at(minute), (f64::from(sum) / seconds.len() as f64).max(0.5))
    });
    line(&mut chart, busiest, BUSIEST, "busiest second of each minute")?;
    line(&mut chart, mean, MEAN, "mean of each minute (axis begins at 0.5)")?;
    legend(&mut chart)
}

/// Each second, on a linear scale, with a mark.
fn near(
    panel: &Drawn<'_>,
    day: &Day,
    caption: &str,
    seconds: Range<usize>,
    outages: &[Range<usize>],
    mark: f64,
    label: &str,
) -> Done {
    let most = day.seconds[seconds.clone()].iter().copied().max().unwrap_or(1);
    let top = f64::from(most).max(mark) * 1.35;
    let (from, until) = (hours(seconds.start), hours(seconds.end));
    let mut chart = ChartBuilder::on(panel)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(75)
        .build_cartesian_2d(from..until, 0.0..top)?;
    for outage in outages {
        chart.draw_series([Rectangle::new(
            [(hours(outage.start), 0.0), (hours(outage.end), top)],
            OUTAGE.mix(0.35).filled(),
        )])?;
    }
    chart
        .configure_mesh()
        .x_desc("time of day, h:min")
        .y_desc("token requests a second")
        .x_label_formatter(&|hour| {
            let minutes = (hour * 60.0).round();
            format!("{:.0}:{:02.0}", (minutes / 60.0).floor(), minutes % 60.0)
        })
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .max_light_lines(0)
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    let each = seconds.map(|second| (hours(second), f64::from(day.seconds[second])));
    line(&mut chart, each, BUSIEST, "each second")?;
    line(&mut chart, [(from, mark), (until, mark)].into_iter(), MARK, &format!("mark: {label} = {mark:.0}"))?;
    legend(&mut chart)
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn line<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    points: impl Iterator<Item = (f64, f64)>,
    color: RGBColor,
    label: &str,
) -> Done
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(1)))?
        .label(label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>) -> Done
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}
