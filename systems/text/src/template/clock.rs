//! The date and time that `strftime_now` formats. The caller passes the time, since some target machines have no clock
//! and tests must not depend on one.

/// A date and time of the Gregorian calendar, without a time zone. A template gets it as `TemplateVars::now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CivilTime {
    year: i64,
    /// 1 to 12.
    month: u8,
    /// 1 to 31.
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    /// 0 is Sunday.
    weekday: u8,
    /// 1 to 366.
    day_of_year: u16,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const SECONDS_OF_DAY: i64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const DAYS_OF_ERA: i64 = 146_097;

impl CivilTime {
    /// Returns the time `seconds` after 1970-01-01T00:00:00 UTC, in a zone `utc_offset` seconds east of UTC.
    pub fn from_unix(seconds: i64, utc_offset: i32) -> Self {
        let seconds = seconds.saturating_add(i64::from(utc_offset));
        let days = seconds.div_euclid(SECONDS_OF_DAY);
        let of_day = seconds.rem_euclid(SECONDS_OF_DAY);
        // Years are counted from 0000-03-01, so that the leap day is the last day of its year: after Hinnant,
        // "chrono-compatible low-level date algorithms", 2013.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(DAYS_OF_ERA);
        let of_era = shifted.rem_euclid(DAYS_OF_ERA);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let from_march = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let day_of_year = if month > 2 { from_march + 60 + i64::from(leap) } else { from_march - 305 };
        Self {
            year,
            month: small(month),
            day: small(day),
            hour: small(of_day / 3_600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            weekday: small((days + 4).rem_euclid(7)),
            day_of_year: u16::try_from(day_of_year).unwrap_or_default(),
        }
    }

    /// Formats the time like C's `strftime` in the English locale. An unknown specifier is kept as it is, as in C.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::with_capacity(format.len() + 16);
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let rest = characters.as_str();
            // `%-d` is the number without padding.
            let (unpadded, specifier) = match characters.next() {
                Some('-') => (true, characters.next()),
                other => (false, other),
            };
            match specifier.and_then(|specifier| self.field(specifier)) {
                Some(field) if unpadded => {
                    let trimmed = field.trim_start_matches(['0', ' ']);
                    out.push_str(if trimmed.is_empty() && !field.is_empty() { "0" } else { trimmed });
                }
                Some(field) => out.push_str(&field),
                None => {
                    out.push('%');
                    let known = rest.len() - characters.as_str().len();
                    out.push_str(&rest[..known]);
                }
            }
        }
        out
    }

    fn field(self, specifier: char) -> Option<String> {
        let month = MONTHS.get(usize::from(self.month.wrapping_sub(1))).copied().unwrap_or_default();
        let weekday = WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or_default();
        let short = |name: &str| name.get(..3).unwrap_or(name).to_owned();
        let hour_of_12 = (self.hour + 11) % 12 + 1;
        Some(match specifier {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'C' => format!("{:02}", self.year.div_euclid(100)),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'H' => format!("{:02}", self.hour),
            'I' => format!("{hour_of_12:02}"),
            'M' => format!("{:02}", self.minute),
            'S' => format!("{:02}", self.second),
            'p' => (if self.hour < 12 { "AM" } else { "PM" }).to_owned(),
            'B' => month.to_owned(),
            'b' | 'h' => short(month),
            'A' => weekday.to_owned(),
            'a' => short(weekday),
            'w' => self.weekday.to_string(),
            'u' => (if self.weekday == 0 { 7 } else { self.weekday }).to_string(),
            'F' => self.format("%Y-%m-%d"),
            'T' => self.format("%H:%M:%S"),
            'R' => self.format("%H:%M"),
            'D' | 'x' => self.format("%m/%d/%y"),
            'X' => self.format("%H:%M:%S"),
            'c' => self.format("%a %b %e %H:%M:%S %Y"),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// Narrows a field of a date. Every field fits.
fn small(value: i64) -> u8 {
    u8::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::CivilTime;

    #[test]
    fn known_dates() {
        // From GNU `date -u -d @N`.
        for (seconds, format, expected) in [
            (0, "%Y-%m-%d %H:%M:%S %A %j", "1970-01-01 00:00:00 Thursday 001"),
            (1_721_952_000, "%d %b %Y", "26 Jul 2024"),
            (951_782_399, "%c", "Mon Feb 28 23:59:59 2000"),
            (951_782_400, "%F %j %a", "2000-02-29 060 Tue"),
            (978_220_800, "%F %j %u", "2000-12-31 366 7"),
            (-1, "%D %I:%M %p %-d %-m", "12/31/69 11:59 PM 31 12"),
            (1_709_251_200, "%e %B %y %% %Q %-H", " 1 March 24 % %Q 0"),
            (4_107_542_400, "%F", "2100-03-01"),
        ] {
            assert_eq!(CivilTime::from_unix(seconds, 0).format(format), expected, "{seconds}");
        }
        assert_eq!(CivilTime::from_unix(0, 3_600).format("%H"), "01");
        assert_eq!(CivilTime::from_unix(0, 0).format("a%"), "a%");
        CivilTime::from_unix(i64::MAX, i32::MAX).format("%c %j");
        CivilTime::from_unix(i64::MIN, i32::MIN).format("%c %j");
    }
}
