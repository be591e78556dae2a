//! Writes the outcomes as text lines, CSV or JSON, as they arrive.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use clap::ValueEnum;

use crate::outcome::Outcome;
use crate::summary::Summary;

/// The format of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Text,
    Csv,
    Json,
}

/// A destination of outcomes.
pub trait Report {
    /// Writes one outcome at once.
    fn add(&mut self, outcome: &Outcome) -> io::Result<()>;

    /// Ends the report, also when the run was interrupted.
    fn close(&mut self, summary: &Summary) -> io::Result<()>;
}

/// Opens a report to the file, or to standard output.
pub fn open(format: Format, output: Option<&Path>) -> io::Result<Box<dyn Report>> {
    let out: Box<dyn Write> = match output {
        Some(path) => Box::new(File::create(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("--output {}: {error}", path.display()),
            )
        })?),
        None => Box::new(io::stdout()),
    };
    Ok(match format {
        Format::Text => Box::new(Text(out)),
        Format::Csv => Box::new(Csv(csv::Writer::from_writer(out))),
        Format::Json => Box::new(Json::begin(out)?),
    })
}

struct Text(Box<dyn Write>);

impl Report for Text {
    fn add(&mut self, outcome: &Outcome) -> io::Result<()> {
        writeln!(self.0, "{outcome}")?;
        self.0.flush()
    }

    fn close(&mut self, _summary: &Summary) -> io::Result<()> {
        self.0.flush()
    }
}

/// A header, and a row per outcome.
struct Csv(csv::Writer<Box<dyn Write>>);

impl Report for Csv {
    fn add(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.0.serialize(outcome).map_err(io::Error::from)?;
        self.0.flush()
    }

    fn close(&mut self, _summary: &Summary) -> io::Result<()> {
        self.0.flush()
    }
}

/// One document, `{"outcomes": [...], "summary": {...}}`, with one outcome per line.
struct Json {
    out: Box<dyn Write>,
    separator: &'static str,
}

impl Json {
    fn begin(mut out: Box<dyn Write>) -> io::Result<Self> {
        write!(out, "{{\"outcomes\": [")?;
        Ok(Self {
            out,
            separator: "\n",
        })
    }
}

impl Report for Json {
    fn add(&mut self, outcome: &Outcome) -> io::Result<()> {
        write!(
            self.out,
            "{}{}",
            self.separator,
            serde_json::to_string(outcome)?
        )?;
        self.separator = ",\n";
        self.out.flush()
    }

    fn close(&mut self, summary: &Summary) -> io::Result<()> {
        writeln!(
            self.out,
            "\n],\n\"summary\": {}}}",
            serde_json::to_string(summary)?
        )?;
        self.out.flush()
    }
}
