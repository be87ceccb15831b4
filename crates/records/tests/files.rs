//! Whole files: written, read back, and every way they can be broken.

use std::path::{Path, PathBuf};

use noisegate_records::{
    Columns, Compression, Error, FileKind, Format, LabelForm, ReadOptions, Record, RecordReader,
    RecordWriter, WriteOptions, digest_records, read_all, write_all,
};
use proptest::prelude::*;
use tempfile::TempDir;

const NAMES: [&str; 6] = [
    "r.jsonl",
    "r.jsonl.zst",
    "r.jsonl.gz",
    "r.csv",
    "r.csv.zst",
    "r.csv.gz",
];

fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn fault(name: &str, content: &[u8]) -> Error {
    let (_folder, path) = file(name, content);
    read_all(&path, &ReadOptions::default()).unwrap_err()
}

fn with_unit() -> Columns {
    Columns {
        unit: Some("patient_id".to_owned()),
        ..Columns::default()
    }
}

fn thousand_rows() -> Vec<Record> {
    (0..1000)
        .map(|i| Record::labelled(format!("message {i} {}", i * i * 7919 % 10_007), "billing"))
        .collect()
}

#[test]
fn the_shared_data_sets_are_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !folder.exists() {
        eprintln!("skipped: {} is absent", folder.display());
        return;
    }
    let rows = |name: &str| {
        let rows = read_all(&folder.join(name), &ReadOptions::default()).unwrap();
        assert!(
            rows.iter()
                .all(|row| !row.text.is_empty() && row.label.is_some())
        );
        rows.len()
    };
    assert_eq!(rows("banking77.train.jsonl.zst"), 9992);
    assert_eq!(rows("ag_news.test.jsonl.zst"), 7600);
    assert_eq!(rows("cfpb_complaints.train.jsonl.zst"), 3150);
}

#[test]
fn a_malformed_row_is_named_by_line_and_never_quoted() {
    let secret = "Jane Roe has shingles";
    let good = format!("{{\"text\":\"{secret}\",\"label\":\"x\"}}\n");
    for bad in [
        format!("{{\"text\":\"{secret}\",\"label\":}}\n"),
        format!("{{\"text\":\"{secret}\n"),
        format!("\"{secret}\"\n"),
        format!("[\"{secret}\"]\n"),
        format!("{{\"text\":[\"{secret}\"],\"label\":\"x\"}}\n"),
        format!("{{\"text\":\"{secret}\",\"label\":{{\"{secret}\":1}}}}\n"),
        format!("{{\"text\":\"{secret}\",\"label\":1.5}}\n"),
        format!("{{\"text\":\"{secret}\",\"label\":\"x\"}} {secret}\n"),
    ] {
        let error = fault("r.jsonl", format!("{good}\n{bad}").as_bytes());
        assert!(
            matches!(error, Error::MalformedRow { line: 3, .. }),
            "{bad} {error:?}"
        );
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("Jane") && shown.contains("r.jsonl"),
            "{shown}"
        );
    }
    let error = fault(
        "r.csv",
        format!("text,label\n\"{secret}\n!\",x\n{secret},x,y\n").as_bytes(),
    );
    assert!(
        matches!(error, Error::MalformedRow { line: 4, .. }),
        "{error:?}"
    );
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("Jane") && shown.contains("3 cells, the header has 2"),
        "{shown}"
    );
}

#[test]
fn a_missing_column_is_named_and_nothing_of_the_file_is_shown() {
    for error in [
        fault("r.csv", b"message,topic\nhello,x\n"),
        fault("r.jsonl", b"{\"message\":\"hello\",\"topic\":\"x\"}\n"),
    ] {
        let shown = error.to_string();
        assert!(shown.contains("line 1: no column `text`"), "{shown}");
        // Without a header line, the names there would be a private row.
        assert!(
            !shown.contains("message") && !shown.contains("hello"),
            "{shown}"
        );
    }
}

#[test]
fn a_column_that_is_there_twice_is_refused() {
    let csv = b"text,label,text\na,b,c\n";
    let jsonl =
        b"{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"a\",\"label\":\"b\",\"label\":\"c\"}\n";
    for (name, content, at, twice) in [
        ("r.csv", &csv[..], 1, "text"),
        ("r.jsonl", jsonl, 2, "label"),
    ] {
        let error = fault(name, content);
        assert!(
            matches!(&error, Error::DoubleColumn { line, column, .. } if *line == at && column == twice),
            "{error:?}"
        );
    }
    // A column that nobody asked for may be there as often as it likes.
    for (name, content) in [
        ("r.csv", &b"text,label,x,x\na,b,1,2\n"[..]),
        (
            "r.jsonl",
            b"{\"text\":\"a\",\"x\":1,\"x\":[{}],\"label\":\"b\"}\n",
        ),
    ] {
        let (_folder, path) = file(name, content);
        let rows = read_all(&path, &ReadOptions::default()).unwrap();
        assert_eq!(rows, [Record::labelled("a", "b")]);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_placed_by_line_and_offset() {
    let at = |name, bytes: &[u8]| match fault(name, bytes) {
        Error::NotUtf8 { line, offset, .. } => (line, offset),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        at(
            "r.jsonl",
            b"{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"\xff\"}\n"
        ),
        (2, 34)
    );
    assert_eq!(at("r.csv", b"text,label\na,b\nc\xc3,d\n"), (3, 16));
    assert_eq!(at("r.csv", b"te\xffxt,label\na,b\n"), (1, 2));
}

#[test]
fn rows_before_a_bad_byte_are_read_and_nothing_after_it() {
    let (_folder, path) = file("r.csv", b"text,label\na,b\nc,d\n\xff,e\nf,g\n");
    let rows: Vec<_> = RecordReader::open(&path, &ReadOptions::default())
        .unwrap()
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1].as_ref().unwrap().text, "c");
    assert!(rows[2].is_err());
}

#[test]
fn a_truncated_compressed_file_is_called_truncated() {
    for name in ["r.jsonl.zst", "r.jsonl.gz", "r.csv.zst", "r.csv.gz"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write_all(&path, &thousand_rows(), &WriteOptions::default()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for keep in [whole.len() - 1, whole.len() / 2, 5] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let error = read_all(&path, &ReadOptions::default()).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { .. }),
                "{name} {keep} {error:?}"
            );
        }
        std::fs::write(&path, b"this was never compressed at all\n").unwrap();
        let error = read_all(&path, &ReadOptions::default()).unwrap_err();
        assert!(
            matches!(error, Error::CorruptCompression { .. }),
            "{name} {error:?}"
        );
    }
}

#[test]
fn a_missing_an_empty_and_a_nameless_file_are_told_apart() {
    let options = ReadOptions::default();
    let error = read_all(Path::new("no/such.jsonl"), &options).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert!(matches!(fault("r.jsonl", b"\n  \n"), Error::Empty { .. }));
    assert!(matches!(fault("r.jsonl", b""), Error::Empty { .. }));
    assert!(matches!(fault("r.csv", b""), Error::Empty { .. }));
    assert!(matches!(
        fault("r.csv", b"text,label\n"),
        Error::Empty { .. }
    ));
    assert!(matches!(fault("r.txt", b"x"), Error::UnknownFormat { .. }));
    let folder = tempfile::tempdir().unwrap();
    let folder_as_file = folder.path().join("d.jsonl");
    std::fs::create_dir(&folder_as_file).unwrap();
    assert!(matches!(
        read_all(&folder_as_file, &options),
        Err(Error::Read { .. })
    ));
}

#[test]
fn a_row_longer_than_the_bound_is_refused_without_reading_it_whole() {
    let options = ReadOptions {
        row_bytes_max: 1000,
        ..ReadOptions::default()
    };
    let read = |name: &str, content: String| {
        let (_folder, path) = file(name, content.as_bytes());
        read_all(&path, &options)
    };
    let json = |n| {
        format!(
            "{{\"text\":\"a\",\"label\":\"b\"}}\n{{\"text\":\"{}\",\"label\":\"b\"}}\n",
            "x".repeat(n)
        )
    };
    assert_eq!(read("r.jsonl", json(900)).unwrap().len(), 2);
    for length in [1001, 100_000, 3_000_000] {
        let error = read("r.jsonl", json(length)).unwrap_err();
        assert!(
            matches!(
                error,
                Error::RowTooLong {
                    line: 2,
                    bytes_max: 1000,
                    ..
                }
            ),
            "{error:?}"
        );
        let error = read(
            "r.csv",
            format!("text,label\n\"{}\",b\n", "x".repeat(length)),
        )
        .unwrap_err();
        assert!(
            matches!(error, Error::RowTooLong { line: 2, .. }),
            "{error:?}"
        );
    }
    // An endless row is given up after the bound and one buffer.
    let endless = std::io::repeat(b'x');
    let kind = FileKind {
        format: Format::Jsonl,
        compression: Compression::Plain,
    };
    let options = ReadOptions {
        kind: Some(kind),
        ..options
    };
    let mut reader = RecordReader::from_read(Path::new("endless"), endless, &options).unwrap();
    assert!(matches!(
        reader.next(),
        Some(Err(Error::RowTooLong { line: 1, .. }))
    ));
}

#[test]
fn units_are_read_and_an_empty_one_is_refused() {
    let options = ReadOptions {
        columns: with_unit(),
        ..ReadOptions::default()
    };
    let (_folder, path) = file(
        "r.jsonl",
        b"{\"text\":\"a\",\"label\":null,\"patient_id\":17,\"extra\":[1]}\n",
    );
    let rows = read_all(&path, &options).unwrap();
    assert_eq!(rows[0].unit.as_deref(), Some("17"));
    assert_eq!(rows[0].label, None);
    for content in [
        "{\"text\":\"a\",\"label\":\"b\",\"patient_id\":\"\"}",
        "{\"text\":\"a\",\"label\":\"b\",\"patient_id\":null}",
    ] {
        let (_folder, path) = file("r.jsonl", content.as_bytes());
        let error = read_all(&path, &options).unwrap_err().to_string();
        assert!(error.contains("line 1: the unit is empty"), "{error}");
    }
    let (_folder, path) = file("r.csv", b"text,label\na,b\n");
    let error = read_all(&path, &options).unwrap_err().to_string();
    assert!(
        error.contains("no column `patient_id`")
            && error.contains("the column that holds the unit")
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data() {
    for (name, content) in [
        ("r.jsonl", "\u{feff}{\"text\":\"a\",\"label\":\"b\"}\r\n"),
        ("r.csv", "\u{feff}text,label\r\na,b\r\n"),
    ] {
        let (_folder, path) = file(name, content.as_bytes());
        let rows = read_all(&path, &ReadOptions::default()).unwrap();
        assert_eq!(rows, [Record::labelled("a", "b")]);
    }
}

#[test]
fn an_unfinished_writer_leaves_no_file_and_keeps_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = folder.path().join(name);
        let old = [Record::labelled("old", "x")];
        write_all(&path, &old, &WriteOptions::default()).unwrap();
        let mut writer = RecordWriter::create(&path, &WriteOptions::default()).unwrap();
        for record in thousand_rows() {
            writer.write(&record).unwrap();
        }
        drop(writer);
        assert_eq!(read_all(&path, &ReadOptions::default()).unwrap(), old);
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        NAMES.len()
    );
}

#[test]
fn a_format_given_by_hand_overrules_the_extension() {
    let kind = FileKind {
        format: Format::Csv,
        compression: Compression::Gzip,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    let write = WriteOptions {
        kind: Some(kind),
        ..WriteOptions::default()
    };
    let rows = [Record::labelled("a", "b")];
    write_all(&path, &rows, &write).unwrap();
    let read = ReadOptions {
        kind: Some(kind),
        ..ReadOptions::default()
    };
    assert_eq!(read_all(&path, &read).unwrap(), rows);
    let mut magic = [0; 2];
    std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut magic).unwrap();
    assert_eq!(magic, [0x1f, 0x8b]);
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let text = prop_oneof![
        any::<String>(),
        "[a-z,\"\r\n \\\\]{0,12}",
        Just(String::new())
    ];
    let label = prop::option::of("[a-z,\"\n]{1,5}");
    prop::collection::vec((text, label, "[a-z0-9\",]{1,4}"), 1..8).prop_map(|rows| {
        rows.into_iter()
            .map(|(text, label, unit)| Record {
                text,
                label,
                unit: Some(unit),
                group: None,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(records in any_records()) {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let path = folder.path().join(name);
            let write = WriteOptions { columns: with_unit(), ..WriteOptions::default() };
            write_all(&path, &records, &write).unwrap();
            let read = ReadOptions { columns: with_unit(), ..ReadOptions::default() };
            let back = read_all(&path, &read).unwrap();
            prop_assert!(back == records, "{} differs", name);
            prop_assert_eq!(digest_records(&back), digest_records(&records));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::Jsonl, Format::Csv] {
            for compression in [Compression::Plain, Compression::Zstd, Compression::Gzip] {
                let kind = Some(FileKind { format, compression });
                let options = ReadOptions { kind, ..ReadOptions::default() };
                let bytes = std::io::Cursor::new(bytes.clone());
                if let Ok(reader) = RecordReader::from_read(Path::new("fuzz"), bytes, &options) {
                    prop_assert!(reader.take(1000).count() < 1000);
                }
            }
        }
    }
}

#[test]
fn group_cells_may_be_empty_or_numbers_and_unit_cells_may_not() {
    let read = |name: &str, content: &str, columns: Columns| {
        let (_folder, path) = file(name, content.as_bytes());
        let options = ReadOptions {
            columns,
            ..ReadOptions::default()
        };
        read_all(&path, &options).map_err(|e| e.to_string())
    };
    let by_ward = || Columns {
        group: Some("ward".to_owned()),
        ..Columns::default()
    };
    let groups = |name, content| -> Vec<Option<String>> {
        let rows = read(name, content, by_ward()).unwrap().into_iter();
        rows.map(|row| row.group).collect()
    };
    let row = |ward: &str| format!("{{\"text\":\"a\",\"label\":\"x\",\"ward\":{ward}}}\n");
    let lines = ["null", "\"\"", "2.5", "7", "\"north\""].map(row).concat();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        groups("a.jsonl", &lines),
        [None, None, some("2.5"), some("7"), some("north")]
    );
    let table = "text,label,ward\na,x,\nb,x,7\n";
    assert_eq!(groups("a.csv", table), [None, some("7")]);
    let problem = read("a.jsonl", &row("[1]"), by_ward()).unwrap_err();
    assert!(problem.contains("`ward` is a list"), "{problem}");
    let problem = read("a.csv", "text,label\na,x\n", by_ward()).unwrap_err();
    assert!(problem.contains("ward"), "{problem}");
    let by_unit = Columns {
        unit: Some("ward".to_owned()),
        ..Columns::default()
    };
    let problem = read("a.csv", table, by_unit).unwrap_err();
    assert!(problem.contains("the unit is empty"), "{problem}");
}

#[test]
fn label_cells_may_hold_several_labels_or_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let read = |content: &str, labels| {
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, content).unwrap();
        let options = ReadOptions {
            labels,
            ..ReadOptions::default()
        };
        let rows = read_all(&path, &options).map_err(|e| e.to_string())?;
        Ok::<_, String>(rows.into_iter().map(|row| row.label).collect::<Vec<_>>())
    };
    let many = "{\"text\":\"a\",\"label\":[\"x\",\"y\"]}\n{\"text\":\"b\",\"label\":[]}\n{\"text\":\"c\",\"label\":\"x;z\"}\n";
    let found = read(many, LabelForm::Many).unwrap();
    assert_eq!(
        found,
        [Some("x;y".to_owned()), None, Some("x;z".to_owned())]
    );
    assert!(
        read(many, LabelForm::One)
            .unwrap_err()
            .contains("neither a string")
    );
    let mixed = "{\"text\":\"a\",\"label\":[\"x;y\"]}\n";
    assert!(
        read(mixed, LabelForm::Many)
            .unwrap_err()
            .contains("stands between labels")
    );
    let number = "{\"text\":\"a\",\"label\":2.5}\n{\"text\":\"b\",\"label\":3}\n";
    let found = read(number, LabelForm::Number).unwrap();
    assert_eq!(found, [Some("2.5".to_owned()), Some("3".to_owned())]);
    assert!(read(number, LabelForm::One).is_err());
}

#[test]
fn a_label_that_is_no_number_is_told_with_its_line_and_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    let read = |cell: &str| {
        std::fs::write(&path, format!("text,label\na,2.5\nb,\"{cell}\"\n")).unwrap();
        let options = ReadOptions {
            labels: LabelForm::Number,
            ..ReadOptions::default()
        };
        read_all(&path, &options).map_err(|error| error.to_string())
    };
    for wrong in ["1,5", "nan", "inf", "seven", "1e300"] {
        let error = read(wrong).unwrap_err();
        assert!(
            error.contains("rows.csv` line 3: the label is no number"),
            "{error}"
        );
        assert!(!error.contains(wrong), "{error}");
    }
    for right in ["", " 7 ", "-1e-7", "100000003"] {
        assert!(read(right).is_ok(), "{right}");
    }
}
