use super::*;

fn hours(hours: i64) -> Length {
    Length::Nanos(hours * 3_600_000_000_000)
}

fn grid(shape: Shape, offset: Length) -> Grid {
    Grid::new(Aligned { shape, offset }, TimeUnit::Second).unwrap()
}

fn windows(grid: Grid, tick: i64) -> Vec<(i64, i64)> {
    let mut windows = Vec::new();
    grid.windows(tick, |start, end| windows.push((start, end)));
    windows
}

/// Every point of the grid near `tick`, on both sides of it.
fn points(tick: i64, every: i64, offset: i64, reach: i64) -> impl Iterator<Item = i64> {
    (tick - reach..=tick + reach).filter(move |point| (point - offset).rem_euclid(every) == 0)
}

#[test]
fn a_row_is_in_every_window_that_holds_its_time() {
    for tick in (-90_000..90_000).step_by(1_237) {
        for offset in [-7_200, 0, 3_600, 100_000] {
            let moved = Length::Nanos(offset * 1_000_000_000);
            let found = windows(grid(Shape::Tumble { size: hours(5) }, moved), tick);
            let expected: Vec<_> = points(tick, 18_000, offset, 20_000)
                .filter(|start| (*start..start + 18_000).contains(&tick))
                .map(|start| (start, start + 18_000))
                .collect();
            assert_eq!(found, expected, "tumble at {tick} by {offset}");

            let found = windows(grid(Shape::Hop { slide: hours(2), size: hours(5) }, moved), tick);
            let expected: Vec<_> = points(tick, 7_200, offset, 20_000)
                .filter(|start| (*start..start + 18_000).contains(&tick))
                .map(|start| (start, start + 18_000))
                .collect();
            assert_eq!(found, expected, "hop at {tick} by {offset}");

            let found = windows(grid(Shape::Cumulate { step: hours(2), size: hours(6) }, moved), tick);
            let start = points(tick, 21_600, offset, 21_600).filter(|start| *start <= tick).last().unwrap();
            let ends = (1..=3).map(|steps| start + steps * 7_200).filter(|end| *end > tick);
            assert_eq!(found, ends.map(|end| (start, end)).collect::<Vec<_>>(), "cumulate at {tick} by {offset}");
        }
    }
}

#[test]
fn months_are_those_of_the_calendar() {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year: i64, month: i64| match month {
        1 => 28 + i64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    // 1600-01-01, as a day and as a month.
    let (mut day, mut month) = (-135_140, -4_440);
    for year in 1600..2400 {
        for of_year in 0..12 {
            assert_eq!(first_day_of(month), day, "{year} {of_year}");
            for of_month in [0, 1, length(year, of_year) - 1] {
                assert_eq!(month_of(day + of_month), month, "{year} {of_year} {of_month}");
            }
            day += length(year, of_year);
            month += 1;
        }
    }
}

#[test]
fn windows_of_months_begin_at_their_offset() {
    let quarters = grid(Shape::Tumble { size: Length::Months(3) }, Length::Months(1));
    // 1969-12-31 23:59:59 lies in the quarter from November 1969 to January 1970.
    assert_eq!(quarters.window(-1), Some((-61 * 86_400, 31 * 86_400)));
}

#[test]
fn what_no_time_can_express_is_in_no_window() {
    for shape in [
        Shape::Tumble { size: hours(1) },
        Shape::Hop { slide: hours(1), size: hours(2) },
        Shape::Cumulate { step: hours(1), size: hours(2) },
    ] {
        for offset in [hours(-1), hours(0), hours(1)] {
            assert_eq!(windows(grid(shape, offset), i64::MAX), []);
            assert_eq!(windows(grid(shape, offset), i64::MIN), []);
        }
    }
}
