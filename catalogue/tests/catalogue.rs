//! Every operator's example plans as it stands, and mistakes in steps are told at their place.

use std::path::Path;

use engine::pipeline::load;

fn problems(text: &str) -> Vec<String> {
    match load(Path::new("p.toml"), text, &|_| None, &catalogue::all()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_example_plans() {
    for operator in catalogue::all().operators {
        let found = problems(operator.example);
        assert!(found.is_empty(), "the example of `{}`:\n{}", operator.name, found.join("\n"));
        assert!(operator.example.contains(&format!("operator = \"{}\"", operator.name)));
    }
}

/// A step over a table `trips` and a stream `clicks`; what is expected is a part of each message, in order.
fn check(step: &str, expected: &[&str]) {
    let sources = r#"
name = "p"
[sources.trips]
type = "file"
path = "trips.csv"
format = "csv"
columns = { id = "int64", zone = "int64", fare = "float64", name = "string" }
key = "id"
[sources.clicks]
type = "file"
path = "clicks.csv"
format = "csv"
columns = { at = "timestamp", page = "string", secs = "float64" }
event_time = "at"
[steps.it]
"#;
    let found = problems(&format!("{sources}{step}"));
    let told = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(told, "{step}\ntold: {found:#?}\nexpected: {expected:#?}");
}

#[test]
fn a_good_step_has_no_mistakes() {
    check("operator = \"select\"\ninput = \"trips\"\ncolumns = [\"id\", \"fare\"]\nfilter = \"fare > 1\"", &[]);
    check("operator = \"select\"\ninput = \"clicks\"\ncolumns = { at = \"at\", minutes = \"secs / 60\" }", &[]);
    check("operator = \"aggregate\"\ninput = \"clicks\"\nby = \"page\"\ncompute = { n = \"count\" }", &[]);
    check("operator = \"join\"\nleft = \"trips\"\nright = \"trips\"\non = [\"id\"]", &[]);
    check("operator = \"join\"\nleft = \"trips\"\nright = \"clicks\"\non = { name = \"page\" }\nkind = \"left\"", &[]);
    check("operator = \"top\"\ninput = \"trips\"\norder = [\"fare desc\"]\nk = 3", &[]);
}

#[test]
fn mistakes_are_told_at_their_place() {
    check(
        "operator = \"select\"\ninput = \"trips\"\ncolumns = { id = \"id\", x = \"fre * 2\" }",
        &["did you mean `fare`?"],
    );
    check("operator = \"select\"\ninput = \"trips\"\ncolumns = { x = \"fare\" }", &["`id` is in the key of `trips`"]);
    check("operator = \"select\"\ninput = \"trips\"\nfilter = \"fare\"", &["must have the type bool"]);
    check("operator = \"select\"\ninput = \"trips\"\nfilter = \"now() > 1\"", &["function of its rows alone"]);
    check("operator = \"aggregate\"\ninput = \"trips\"", &["`by` is missing", "`compute` is missing"]);
    check(
        "operator = \"aggregate\"\ninput = \"trips\"\nby = [\"zone\"]\ncompute = { a = \"summ(fare)\", b = \"sum(name)\", zone = \"count\", c = \"max(nme)\" }",
        &["did you mean `sum`?", "has the type string", "a column `zone` already", "did you mean `name`?"],
    );
    check("operator = \"join\"\nleft = \"trips\"\nright = \"clicks\"\non = { id = \"page\" }", &["cast one of them"]);
    check("operator = \"join\"\nleft = \"trips\"\nright = \"clicks\"", &["`on` is missing"]);
    check(
        "operator = \"join\"\nleft = \"trips\"\nright = \"clicks\"\non = [\"zone\"]\nkind = \"outer\"",
        &["zone", "kind"],
    );
    check("operator = \"top\"\ninput = \"trips\"\norder = [\"fair desc\"]\nk = 0", &["fair", "k"]);
    check(
        "operator = \"td_value\"\ninput = \"clicks\"\nstate = \"page\"\nnext_state = \"secs\"\nreward = \"secs\"\nalpha = 0.1\ngamma = 0.9",
        &["they must be the same"],
    );
    check(
        "operator = \"td_value\"\ninput = \"clicks\"\nstate = \"page\"\nnext_state = \"page\"\nreward = \"secs\"\nalpha = 2\ngamma = 0.9",
        &["`alpha` is 2"],
    );
}
