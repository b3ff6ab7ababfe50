//! Keys of rows as text, for views that name what has a key of any shape.

use types::{Value, json};

/// A key as text: its one cell, or a JSON list of its cells.
pub fn key_text(cells: &[Value]) -> String {
    let mut out = Vec::new();
    match cells {
        [Value::Str(text)] => return text.clone(),
        [cell] => json::write_value(&mut out, cell),
        cells => {
            out.push(b'[');
            for (i, cell) in cells.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json::write_value(&mut out, cell);
            }
            out.push(b']');
        }
    }
    let text = String::from_utf8(out).expect("JSON is text");
    // A time alone needs no quotes.
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map_or(text.clone(), str::to_owned)
}
