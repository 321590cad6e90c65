//! Draws a chart that can be read on a phone: few labels, large letters, the moment at which the alert began.

use super::answer::Series;
use super::png;
use crate::alerts::text::{cut, number};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use plotters::prelude::*;
use plotters::style::register_font;
use std::error::Error;
use std::sync::Once;

/// `DejaVu Sans`, cut down; see the licence beside it. No font of the system is needed.
const FONT: &[u8] = include_bytes!("../../web/DejaVuSans-subset.ttf");
const FAMILY: &str = "datapulse";
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 675;
const INK: RGBColor = RGBColor(0x1d, 0x1c, 0x1d);
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const BAND: RGBColor = RGBColor(0xb7, 0xdf, 0xc4);
const ALARM: RGBColor = RGBColor(0xe0, 0x1e, 0x5a);
/// Told apart also by those who see few colours. <https://jfly.uni-koeln.de/color/>
const LINES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
];

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) name: String,
    pub(super) series: Vec<Series>,
    pub(super) low: Option<Series>,
    pub(super) high: Option<Series>,
    /// When the alert began, Unix seconds.
    pub(super) began: i64,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) zone: TimeZone,
}

impl Picture {
    /// For those who do not see it.
    pub(super) fn words(&self) -> String {
        let last = |series: Option<&Series>| series?.points.last().map(|(_, value)| number(*value));
        let mut words = format!("chart of {} over {} minutes", self.name, (self.to - self.from) / 60);
        if let Some(now) = last(self.series.first()) {
            words.push_str(&format!(", now {now}"));
        }
        if let (Some(low), Some(high)) = (last(self.low.as_ref()), last(self.high.as_ref())) {
            words.push_str(&format!(", expected {low} to {high}"));
        }
        words
    }

    /// The lowest and the highest value, with some air; 0 is shown when it is near.
    fn heights(&self) -> (f64, f64) {
        let all = self.series.iter().chain(&self.low).chain(&self.high).flat_map(|series| &series.points);
        let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| {
            (low.min(*value), high.max(*value))
        });
        if !low.is_finite() || !high.is_finite() {
            return (0.0, 1.0);
        }
        let air = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-9);
        let bottom = if low >= 0.0 && low < high * 0.6 { 0.0 } else { low - air };
        (bottom, high + air)
    }
}

/// Draws it.
///
/// # Errors
/// In words, what the drawing library says.
pub(super) fn draw(picture: &Picture) -> Result<Vec<u8>, String> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // A font that cannot be read shows when a text is drawn; a test does that.
        drop(register_font(FAMILY, FontStyle::Normal, FONT));
    });
    let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
    paint(picture, &mut pixels).map_err(|error| error.to_string())?;
    Ok(png::encode(&pixels, WIDTH, HEIGHT))
}

fn paint(picture: &Picture, pixels: &mut [u8]) -> Result<(), Box<dyn Error>> {
    let root = BitMapBackend::with_buffer(pixels, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: u32| (FAMILY, size).into_font().color(&INK);
    let (bottom, top) = picture.heights();
    let mut chart = ChartBuilder::on(&root)
        .margin(24)
        .margin_right(40)
        .caption(drawable(&cut(&picture.title, 60)), text(36))
        .x_label_area_size(56)
        .y_label_area_size(120)
        .build_cartesian_2d(picture.from..picture.to.max(picture.from + 1), bottom..top)?;
    let zone = picture.zone.clone();
    let long = picture.to - picture.from > 36 * 3600;
    let time = move |second: &i64| {
        let at = Timestamp::from_second(*second).map(|at| at.to_zoned(zone.clone()));
        at.map(|at| at.strftime(if long { "%d %b" } else { "%H:%M" }).to_string()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&time)
        .y_label_formatter(&|value| short(*value))
        .label_style(text(28))
        .draw()?;
    if let (Some(low), Some(high)) = (&picture.low, &picture.high) {
        let edge = high.points.iter().chain(low.points.iter().rev()).copied().collect::<Vec<_>>();
        chart
            .draw_series([Polygon::new(edge, BAND.filled())])?
            .label("expected")
            .legend(|(x, y)| Rectangle::new([(x, y - 8), (x + 36, y + 8)], BAND.filled()));
    } else {
        for edge in picture.low.iter().chain(&picture.high) {
            let line = LineSeries::new(edge.points.iter().copied(), BAND.stroke_width(5));
            chart
                .draw_series(line)?
                .label("expected")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 36, y)], BAND.stroke_width(5)));
        }
    }
    for (series, colour) in picture.series.iter().zip(LINES) {
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(4));
        let name = if series.name.is_empty() { &picture.name } else { &series.name };
        chart
            .draw_series(line)?
            .label(drawable(&cut(name, 48)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 36, y)], colour.stroke_width(4)));
        // A single point makes no line.
        if let [point] = series.points.as_slice() {
            chart.draw_series([Circle::new(*point, 7, colour.filled())])?;
        }
    }
    if (picture.from..=picture.to).contains(&picture.began) {
        let line = [(picture.began, bottom), (picture.began, top)];
        chart
            .draw_series([PathElement::new(line, ALARM.stroke_width(3))])?
            .label("alert")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 36, y)], ALARM.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(16)
        .legend_area_size(46)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(text(26))
        .draw()?;
    root.present()?;
    Ok(())
}

/// Letters that the font has; others become a square that says so.
fn drawable(text: &str) -> String {
    let known = |letter: char| matches!(letter, ' '..='~' | '\u{a0}'..='\u{17f}' | '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{45f}' | '…' | '–' | '—');
    text.chars().map(|letter| if known(letter) { letter } else { '?' }).collect()
}

/// A value in at most some five letters.
fn short(value: f64) -> String {
    for (size, sign) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")] {
        if value.abs() >= size {
            let factor = if sign == "k" { 1e3 } else { size };
            return format!("{}{sign}", number((value / factor * 100.0).round() / 100.0));
        }
    }
    number((value * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, height: f64) -> Series {
        let points = (0..180).map(|minute| {
            (1_795_168_800 + minute * 60, height + (minute as f64 / 20.0).sin() * height / 4.0)
        });
        Series { name: name.into(), points: points.collect() }
    }

    fn picture() -> Picture {
        Picture {
            title: "Devices of PH fell to 210 of 4,100 expected — 日本".into(),
            name: "device_connections".into(),
            series: vec![series("PH", 4000.0)],
            low: Some(series("", 3000.0)),
            high: Some(series("", 5000.0)),
            began: 1_795_168_800 + 7200,
            from: 1_795_168_800,
            to: 1_795_168_800 + 10_800,
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn a_chart_is_a_picture_with_letters_lines_and_the_band() {
        let file = draw(&picture()).unwrap();
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n") && file.ends_with(b"IEND\xaeB`\x82"));
        assert!((10_000..400_000).contains(&file.len()), "{} bytes", file.len());
        let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
        paint(&picture(), &mut pixels).unwrap();
        let count = |colour: RGBColor| {
            pixels.chunks_exact(3).filter(|pixel| **pixel == [colour.0, colour.1, colour.2]).count()
        };
        assert!(count(INK) > 2000, "letters: {}", count(INK));
        assert!(count(BAND) > 20_000 && count(ALARM) > 500 && count(LINES[0]) > 1000);
    }

    #[test]
    fn odd_data_are_drawn_too() {
        for points in [
            vec![],
            vec![(1_795_168_900, 0.0)],
            vec![(1_795_168_900, 5.0), (1_795_168_960, 5.0)],
            vec![(1_795_168_900, -1e300), (1_795_169_000, 1e300)],
        ] {
            let odd = Picture {
                series: vec![Series { name: String::new(), points }],
                low: None,
                title: String::new(),
                ..picture()
            };
            assert!(draw(&odd).is_ok());
            assert!(!odd.words().is_empty());
        }
        for (value, words) in
            [(0.0, "0"), (999.0, "999"), (12_345.0, "12.35k"), (4.1e9, "4.1G"), (0.25, "0.25")]
        {
            assert_eq!(short(value), words);
        }
    }
}
