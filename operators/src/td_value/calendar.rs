//! Change points in event time: at which times of which days the table of values moves.

use types::Micros;

/// A day.
pub const DAY: Micros = 86_400_000_000;

/// Of the change points between two events, those of the last so many days count: after ten years nothing is left of a
/// table that is drawn anywhere, and an absurd time in the data must not cost years of work.
const DAYS_MAX: i64 = 3_660;

/// What the table is drawn to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The value of an unknown state.
    Initial,
    /// The offline value function at that time of day.
    Offline,
}

/// A daily change point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The local time of day.
    pub time: Micros,
    /// On which days; on all if there are none.
    pub days: Vec<Day>,
    /// The weight of the table as it was.
    pub keep: f64,
    /// What the rest comes from.
    pub anchor: Anchor,
}

/// A day on which a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Day {
    /// Every week, from Monday, which is 0.
    Week(i64),
    /// Once: the number of the day since 1970-01-01.
    Date(i64),
}

/// A change point at its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: Micros,
    /// The local time of day.
    pub time: Micros,
    /// The weight of the table as it was.
    pub keep: f64,
    /// What the rest comes from.
    pub anchor: Anchor,
}

/// All change points, by time of day and then in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calendar {
    /// Local time less UTC.
    pub offset: Micros,
    points: Vec<Point>,
}

impl Calendar {
    /// Of these points.
    pub fn new(offset: Micros, mut points: Vec<Point>) -> Calendar {
        points.sort_by_key(|p| p.time);
        Calendar { offset, points }
    }

    /// The points, by time of day.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The change points after one time and not after another, in order.
    pub fn between(&self, after: Micros, until: Micros) -> Vec<Change> {
        let (first, last) = (self.day(after), self.day(until));
        let days = first.max(last.saturating_sub(DAYS_MAX))..=last;
        let changes = days.flat_map(|day| self.of_day(day));
        changes.filter(|c| c.at > after && c.at <= until).collect()
    }

    /// The time of the next change point after a time; none within [`DAYS_MAX`] days is never.
    pub fn next(&self, after: Micros) -> Micros {
        let first = self.day(after);
        let changes = (first..=first + DAYS_MAX).flat_map(|day| self.of_day(day));
        // Weekly points come within eight days; dates may be far, and are looked at once.
        changes.map(|c| c.at).find(|at| *at > after).unwrap_or(Micros::MAX)
    }

    /// The last change point up to a time, if there is one within [`DAYS_MAX`] days.
    pub fn last(&self, until: Micros) -> Option<Change> {
        let last = self.day(until);
        let mut days = (last.saturating_sub(DAYS_MAX)..=last).rev();
        days.find_map(|day| self.of_day(day).filter(|c| c.at <= until).last())
    }

    /// The local time of day.
    pub fn time_of_day(&self, at: Micros) -> Micros {
        at.saturating_add(self.offset).rem_euclid(DAY)
    }

    fn day(&self, at: Micros) -> i64 {
        at.saturating_add(self.offset).div_euclid(DAY)
    }

    fn of_day(&self, day: i64) -> impl Iterator<Item = Change> + '_ {
        let weekday = (day + 3).rem_euclid(7);
        let is_on = move |p: &&Point| {
            p.days.is_empty()
                || p.days.iter().any(|d| match d {
                    Day::Week(on) => *on == weekday,
                    Day::Date(on) => *on == day,
                })
        };
        self.points.iter().filter(is_on).filter_map(move |p| {
            let at = day.checked_mul(DAY)?.checked_add(p.time)?.checked_sub(self.offset)?;
            Some(Change { at, time: p.time, keep: p.keep, anchor: p.anchor })
        })
    }
}

/// An event time as text, as sources read it by default, or as microseconds since 1970.
pub fn event_time(text: &str) -> Option<Micros> {
    text.parse().ok().or_else(|| types::time::TimeFormat::Auto.parse(text.as_bytes()).ok())
}

/// `HH:MM`, `HH:MM:SS` or with a fraction of a second.
pub fn time_of_day(text: &str) -> Option<Micros> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<&str> = clock.split(':').collect();
    if !(2..=3).contains(&parts.len()) || (!fraction.is_empty() && parts.len() != 3) || fraction.len() > 6 {
        return None;
    }
    let number = |text: &str, below: i64| -> Option<i64> {
        let is_whole = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| is_whole && *n < below)
    };
    let secs = parts.get(2).map_or(Some(0), |s| number(s, 60))?;
    let whole = (number(parts[0], 24)? * 60 + number(parts[1], 60)?) * 60 + secs;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let micros = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").parse::<i64>().ok()? };
    Some(whole * 1_000_000 + micros)
}

/// `+HH:MM` or `-HH:MM`.
pub fn utc_offset(text: &str) -> Option<Micros> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let size = time_of_day(&text[1..]).filter(|_| text.len() == 6)?;
    Some(sign * size)
}

/// `mon` to `sun`, or a date `YYYY-MM-DD`.
pub fn day(text: &str) -> Option<Day> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    if let Some(at) = NAMES.iter().position(|n| *n == text) {
        return Some(Day::Week(at as i64));
    }
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let date = jiff::civil::Date::new(
        year.parse().ok().filter(|_| year.len() == 4)?,
        month.parse().ok().filter(|_| month.len() == 2)?,
        day.parse().ok().filter(|_| day.len() == 2)?,
    )
    .ok()?;
    let first = jiff::civil::date(1970, 1, 1);
    Some(Day::Date(i64::from(first.until(date).ok()?.get_days())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_in_order_on_their_days() {
        let point = |time: &str, days: &[&str], keep| Point {
            time: time_of_day(time).unwrap(),
            days: days.iter().map(|d| day(d).unwrap()).collect(),
            keep,
            anchor: Anchor::Initial,
        };
        let points =
            vec![point("18:30", &["fri"], 0.5), point("00:00", &[], 0.0), point("12:00", &["1970-01-03"], 0.1)];
        let calendar = Calendar::new(utc_offset("+08:00").unwrap(), points);
        // Thursday, 1 January 1970, 08:00 local.
        let keeps: Vec<f64> = calendar.between(0, 3 * DAY).iter().map(|c| c.keep).collect();
        assert_eq!(keeps, [0.0, 0.5, 0.0, 0.1, 0.0]);
        assert_eq!(calendar.next(0), 16 * 3_600_000_000);
        assert_eq!(calendar.between(0, calendar.next(0)).len(), 1);
        assert_eq!(calendar.last(calendar.next(0)), calendar.between(0, calendar.next(0)).pop());
        assert_eq!(calendar.last(3 * DAY), calendar.between(0, 3 * DAY).pop());
        assert_eq!(calendar.between(calendar.next(0), calendar.next(0)).len(), 0);
        assert_eq!(calendar.between(i64::MIN, i64::MIN + 5).len(), 0);
        assert!(calendar.between(0, i64::MAX).len() > 3_000);
    }

    #[test]
    fn what_is_no_time_or_day_is_refused() {
        assert_eq!(time_of_day("00:00:00.0025"), Some(2_500));
        assert!(
            ["24:00", "1:00", "00:60", "00:00:0a", "00:00.5", "", "+1:00"].iter().all(|t| time_of_day(t).is_none())
        );
        assert!(["mo", "2016-13-01", "16-01-01", "2016-1-1"].iter().all(|d| day(d).is_none()));
        assert!(["08:00", "+8", "+24:00", "é1:00"].iter().all(|o| utc_offset(o).is_none()));
        assert_eq!(utc_offset("-03:30"), Some(-12_600_000_000));
    }
}
