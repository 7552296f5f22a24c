//! The departments of users, from a CSV file with the header `user,department`.
//!
//! Each user belongs to exactly one department or is unmapped, whatever the label `user` contains. So the sums of all
//! departments and of the unmapped users add up to the sum of the report.
//!
//! The reader is strict: a value has no line break, so each line is a record, and an error has the number of its line.
//! The crate `csv` is not used, because it accepts a double quote that is not closed and then reads the next lines as
//! part of a department.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

/// The department of each user in the file.
#[derive(Clone, Debug)]
pub struct Departments {
    /// The departments, sorted.
    names: Vec<String>,
    /// The department by user principal name or object id, in lower case.
    of: HashMap<String, DepartmentId>,
    fingerprint: String,
}

/// Index of a department in the sorted names. The index of [`UNMAPPED`] is the number of departments.
pub(crate) type DepartmentId = u32;

/// A mistake in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: usize,
    /// Cause and remedy, without the name of a user.
    pub what: String,
}

impl Departments {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// The first ten mistakes.
    pub fn parse(content: &[u8]) -> Result<Self, Vec<Mistake>> {
        let text = text(content).map_err(|mistake| vec![mistake])?;
        let mut lines = (1..).zip(text.lines());
        check_header(lines.next().map_or("", |(_, header)| header))
            .map_err(|what| vec![Mistake { line: 1, what }])?;
        let mut reader = Reader::default();
        let mut mistakes = Vec::new();
        for (line, record) in lines {
            if let Err(what) = reader.add(line, record) {
                mistakes.push(Mistake { line, what });
            }
            if line > LINES_MAX || mistakes.len() == MISTAKES_MAX {
                break;
            }
        }
        if mistakes.is_empty() && reader.of.is_empty() {
            let what = "no user; add a line for each user, or remove the section departments";
            mistakes.push(Mistake {
                line: 1,
                what: what.to_owned(),
            });
        }
        if mistakes.is_empty() {
            Ok(reader.into())
        } else {
            Err(mistakes)
        }
    }

    /// The department of the user with this principal name or, if that is not in the file, this object id.
    pub(crate) fn of(&self, principal_name: &str, id: &str) -> DepartmentId {
        let find = |name: &str| self.of.get(&name.to_lowercase()).copied();
        find(principal_name)
            .or_else(|| find(id))
            .unwrap_or_else(|| self.unmapped())
    }

    /// The label of a department.
    pub(crate) fn name(&self, department: DepartmentId) -> &str {
        let name = self.names.get(department as usize);
        name.map_or(UNMAPPED, String::as_str)
    }

    /// The department with this name, which may be [`UNMAPPED`].
    ///
    /// # Errors
    /// Cause and remedy, if there is no such department.
    pub(crate) fn find(&self, name: &str) -> Result<DepartmentId, String> {
        if name == UNMAPPED {
            return Ok(self.unmapped());
        }
        let found = self.names.binary_search_by(|known| (**known).cmp(name));
        found.map(id).map_err(|_| {
            let some = self.names[..self.names.len().min(NAMES_MAX)].join(", ");
            format!("no user in departments.file has this department; choose from {some}")
        })
    }

    /// The department of users who are not in the file.
    pub(crate) fn unmapped(&self) -> DepartmentId {
        id(self.names.len())
    }

    /// The number of departments.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    /// The number of users in the file.
    pub(crate) fn users(&self) -> usize {
        self.of.len()
    }

    /// A hash of all users and their departments. The order of the lines does not matter.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Equal if every user has the same department.
impl PartialEq for Departments {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// The users that were read so far, each with line and department.
#[derive(Default)]
struct Reader {
    of: HashMap<String, (usize, String)>,
    names: BTreeSet<String>,
}

impl Reader {
    /// Adds a line, or explains why it cannot be used.
    fn add(&mut self, line: usize, record: &str) -> Result<(), String> {
        if line > LINES_MAX {
            return Err("more than 100,000 lines; list only the users who make calls".to_owned());
        }
        if record.trim().is_empty() {
            return Ok(());
        }
        let [user, department] = values(record)?;
        check_department(&department)?;
        if user.is_empty() {
            return Err(
                "the user is empty; give a user principal name or an object id, or remove the line"
                    .to_owned(),
            );
        }
        let user = user.to_lowercase();
        if let Some((first, _)) = self.of.get(&user) {
            return Err(format!(
                "the same user as on line {first}; remove one of the two lines"
            ));
        }
        if !self.names.contains(&*department) {
            if self.names.len() == DEPARTMENTS_MAX {
                return Err("more than 10,000 departments; combine some of them".to_owned());
            }
            self.names.insert(department.to_string());
        }
        self.of.insert(user, (line, department.into_owned()));
        Ok(())
    }
}

impl From<Reader> for Departments {
    fn from(Reader { of, names }: Reader) -> Self {
        let mut users: Vec<(&str, &str)> = of
            .iter()
            .map(|(user, (_, department))| (&**user, &**department))
            .collect();
        users.sort_unstable();
        let spelled = serde_json::json!(users).to_string();
        let fingerprint = digest::digest(&digest::SHA256, spelled.as_bytes());
        let fingerprint = URL_SAFE_NO_PAD.encode(fingerprint);
        let names: Vec<String> = names.into_iter().collect();
        let of = of.into_iter().map(|(user, (_, department))| {
            let index = names.binary_search(&department);
            (user, id(index.expect("the name of a user's department")))
        });
        Self {
            of: of.collect(),
            names,
            fingerprint,
        }
    }
}

/// The text without the byte order mark that Excel writes.
fn text(content: &[u8]) -> Result<&str, Mistake> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let good = &content[..error.valid_up_to()];
        Mistake {
            line: good.split(|byte| *byte == b'\n').count(),
            what: "not UTF-8; save the file as UTF-8".to_owned(),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn check_header(header: &str) -> Result<(), String> {
    let what = match values(header) {
        Ok([user, department]) if (&*user, &*department) == ("user", "department") => {
            return Ok(());
        }
        _ if header.trim().is_empty() => "there is no header;",
        _ if header.contains([';', '\t']) => {
            "the header is not user,department; separate the columns by commas, and"
        }
        _ => "the header is not user,department;",
    };
    Err(format!(
        "{what} begin the file with the line user,department"
    ))
}

fn check_department(department: &str) -> Result<(), String> {
    let is_long = department.chars().count() > NAME_MAX;
    let what = match department {
        "" => "the department is empty; name one, or remove the line: its user is then unmapped",
        UNMAPPED => {
            "unmapped stands for users who are not in the file; choose another name, or remove the line"
        }
        _ if is_long || department.contains(char::is_control) => {
            "the department is not a name; write 1 to 128 characters without control characters"
        }
        _ => return Ok(()),
    };
    Err(what.to_owned())
}

/// The two values of a line.
fn values(record: &str) -> Result<[Cow<'_, str>; 2], String> {
    let mut values = Vec::new();
    let mut rest = Some(record);
    while let Some(text) = rest {
        let value;
        (value, rest) = first_value(text)?;
        values.push(value);
    }
    let count = values.len();
    values.try_into().map_err(|_| match count {
        1 => "no department; write the user and the department, separated by a comma".to_owned(),
        _ => format!(
            "{count} columns instead of 2; put a value that contains a comma in double quotes"
        ),
    })
}

/// Returns the first value of `text`, trimmed. If a comma follows the value, also returns the text after the comma.
fn first_value(text: &str) -> Result<(Cow<'_, str>, Option<&str>), String> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let split = text.split_once(',');
        let (value, rest) = split.map_or((text, None), |(value, rest)| (value, Some(rest)));
        if value.contains('"') {
            let what = "a double quote inside a value; put the value in double quotes, and write each quote inside the value twice";
            return Err(what.to_owned());
        }
        return Ok((value.trim().into(), rest));
    };
    let mut quotes = quoted.match_indices('"').map(|(at, _)| at).peekable();
    let end = loop {
        let Some(at) = quotes.next() else {
            let what = "a double quote is not closed; close it on the same line, or remove it";
            return Err(what.to_owned());
        };
        // A doubled quote is a quote inside the value.
        if quotes.next_if_eq(&(at + 1)).is_none() {
            break at;
        }
    };
    let value = quoted[..end].trim().replace("\"\"", "\"");
    let after = quoted[end + 1..].trim_start();
    let rest = after.strip_prefix(',');
    if rest.is_none() && !after.is_empty() {
        let what = "text after a closing double quote; write a comma after it, or remove the text";
        return Err(what.to_owned());
    }
    Ok((value.into(), rest))
}

fn id(index: usize) -> DepartmentId {
    DepartmentId::try_from(index).expect("a limited number of departments")
}

/// Label of users who are not in the file.
const UNMAPPED: &str = "unmapped";

/// Maximum number of lines of the file. In a tenant with more users than this, most users have no telephone and can be
/// left out of the file.
const LINES_MAX: usize = 100_000;

/// Maximum number of departments: half of the default of `max_series`.
const DEPARTMENTS_MAX: usize = 10_000;

/// Maximum characters of a department's name, as for names in the configuration.
const NAME_MAX: usize = 128;

/// Maximum number of mistakes that are reported. Most files have at most one mistake. A file in another format has one
/// in each line.
const MISTAKES_MAX: usize = 10;

/// Maximum number of names that a message lists.
const NAMES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn departments(text: &str) -> Departments {
        Departments::parse(text.as_bytes()).expect("a file that can be used")
    }

    #[test]
    fn spellings_of_one_file_are_equal() {
        let one = departments("user,department\nann@x,Sales\nben@x,\"R&D, Oslo\"\n");
        for text in [
            "\u{feff}user,department\r\nBEN@X , \"R&D, Oslo\" \r\n\r\nAnn@x,Sales",
            " user , \"department\" \n\"ann@x\",\"Sales\"\nben@x,\"R&D, Oslo\"",
        ] {
            let other = departments(text);
            assert_eq!(one, other, "{text}");
            assert_eq!(other.names, ["R&D, Oslo", "Sales"]);
        }
        assert_ne!(
            one,
            departments("user,department\nann@x,Sales\nben@x,Sales\n")
        );
        let quoted = departments("user,department\nann@x,\"the \"\"A\"\" team\"\n");
        assert_eq!(quoted.names, ["the \"A\" team"]);
    }

    #[test]
    fn users_are_found_by_either_name_in_any_case() {
        let departments = departments(
            "user,department\nÄnn@contoso.com,Sales\n5E9B8B3F-0000-4000-8000-000000000001,Support\n",
        );
        let id = "5e9b8b3f-0000-4000-8000-000000000001";
        for (principal_name, id, department) in [
            ("ÄNN@contoso.com", "", "Sales"),
            ("änn@Contoso.com", id, "Sales"),
            ("renamed@contoso.com", id, "Support"),
            ("", id, "Support"),
            ("cy@contoso.com", "2", "unmapped"),
            ("", "", "unmapped"),
        ] {
            let found = departments.of(principal_name, id);
            assert_eq!(departments.name(found), department, "{principal_name}");
            assert_eq!(departments.find(department), Ok(found));
        }
        assert_eq!(
            departments.find("sales"),
            Err(
                "no user in departments.file has this department; choose from Sales, Support"
                    .to_owned()
            )
        );
        assert_eq!((departments.users(), departments.count()), (2, 2));
    }

    #[test]
    fn mistakes_by_table() {
        let header =
            "the header is not user,department; begin the file with the line user,department";
        let commas = "the header is not user,department; separate the columns by commas, and begin the file with the line user,department";
        let none = "there is no header; begin the file with the line user,department";
        let quote = "a double quote is not closed; close it on the same line, or remove it";
        let after = "text after a closing double quote; write a comma after it, or remove the text";
        let inside = "a double quote inside a value; put the value in double quotes, and write each quote inside the value twice";
        let name =
            "the department is not a name; write 1 to 128 characters without control characters";
        let long = format!("user,department\na,{}\n", "x".repeat(129));
        for (text, line, what) in [
            ("", 1, none),
            ("\r\nann@x,Sales\n", 1, none),
            ("ann@x,Sales\n", 1, header),
            ("department,user\nSales,ann@x\n", 1, header),
            ("user,department,cost\nann@x,Sales,7\n", 1, header),
            ("User,Department\nann@x,Sales\n", 1, header),
            ("user;department\nann@x;Sales\n", 1, commas),
            ("user\tdepartment\nann@x\tSales\n", 1, commas),
            (
                "user,department\n\n",
                1,
                "no user; add a line for each user, or remove the section departments",
            ),
            (
                "user,department\nann@x,Sales\nben@x\n",
                3,
                "no department; write the user and the department, separated by a comma",
            ),
            (
                "user,department\nann@x,Sales, Oslo\n",
                2,
                "3 columns instead of 2; put a value that contains a comma in double quotes",
            ),
            (
                "user,department\n ,Sales\n",
                2,
                "the user is empty; give a user principal name or an object id, or remove the line",
            ),
            (
                "user,department\r\nann@x,Sales\r\nben@x,\"\"\r\n",
                3,
                "the department is empty; name one, or remove the line: its user is then unmapped",
            ),
            (
                "user,department\nann@x,Sales\n\nANN@X,Sales\n",
                4,
                "the same user as on line 2; remove one of the two lines",
            ),
            (
                "user,department\nann@x,unmapped\n",
                2,
                "unmapped stands for users who are not in the file; choose another name, or remove the line",
            ),
            ("user,department\nann@x,Sa\u{7}les\n", 2, name),
            (&long, 2, name),
            ("user,department\nann@x,\"Sales\nben@x,Ops\n", 2, quote),
            ("user,department\nann@x,Sales\nben@x,\"Ops", 3, quote),
            ("user,department\n\"ann\"@x,Sales\n", 2, after),
            ("user,department\nann@x,Sales \"A\"\n", 2, inside),
        ] {
            let what = what.to_owned();
            let expected = vec![Mistake { line, what }];
            let found = Departments::parse(text.as_bytes()).unwrap_err();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn encodings_other_than_utf_8_are_refused() {
        let utf_16: Vec<u8> = "\u{feff}user,department\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let latin_1 = b"user,department\nann@x,Sales\nben@x,Verk\xe4ufe\n".to_vec();
        for (content, line) in [(utf_16, 1), (latin_1, 3)] {
            let what = "not UTF-8; save the file as UTF-8".to_owned();
            let expected = vec![Mistake { line, what }];
            assert_eq!(Departments::parse(&content).unwrap_err(), expected);
        }
    }

    #[test]
    fn lines_departments_and_mistakes_are_limited() {
        let file = |lines: usize, line: &dyn Fn(usize) -> String| {
            let mut text = "user,department\n".to_owned();
            (2..=lines).for_each(|number| text += &line(number));
            Departments::parse(text.as_bytes())
        };
        let one = |number: usize| format!("user{number}@x,Sales\n");
        assert_eq!(file(100_000, &one).map(|file| file.users()), Ok(99_999));
        let refused = |what: &str, line| {
            let what = what.to_owned();
            vec![Mistake { line, what }]
        };
        let what = "more than 100,000 lines; list only the users who make calls";
        assert_eq!(file(200_000, &one).unwrap_err(), refused(what, 100_001));
        let own = |number: usize| format!("user{number}@x,{number}\n");
        assert_eq!(file(10_001, &own).map(|file| file.count()), Ok(10_000));
        let what = "more than 10,000 departments; combine some of them";
        assert_eq!(file(10_002, &own).unwrap_err(), refused(what, 10_002));
        let bad = |_: usize| "not a line\n".to_owned();
        let mistakes = file(1_000, &bad).unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, (2..=11).collect::<Vec<_>>());
    }
}
