//! Tests that walk the table: what holds of every row.

use super::*;

/// Every option of a cache.
fn options() -> impl Iterator<Item = (&'static Field, &'static CacheField)> {
    FIELDS
        .iter()
        .filter_map(|field| Some((field, field.cache.as_ref()?)))
}

fn variable(field: &Field) -> String {
    format!("UNSTALE_{}", field.name.to_uppercase())
}

fn own_variable(field: &Field) -> String {
    format!("UNSTALE_CACHES__ROWS__{}", field.name.to_uppercase())
}

fn default_of(field: &Field) -> String {
    (field.show)(&Settings::default())
}

fn code(part: &CacheField, value: &str) -> CacheSettings {
    let mut code = CacheSettings::default();
    (part.set)(&mut code, value).expect(value);
    code
}

/// A cache whose code can do everything.
fn resolve(settings: &Settings, code: &CacheSettings) -> Result<options::CacheOptions, Error> {
    let can = Abilities {
        weighs: true,
        compares: true,
    };
    settings.for_cache("rows", code, can)
}

#[test]
fn defaults_of_all_rows_are_valid_and_read_back() {
    assert_eq!(good(&[]), Settings::default());
    assert!(Settings::default().validate().is_ok());
    for field in FIELDS {
        let shown = default_of(field);
        let mut settings = Settings::default();
        if shown != "unset" {
            (field.set)(&mut settings, &shown).expect(field.name);
        }
        assert_eq!(settings, Settings::default(), "{}", field.name);
    }
}

#[test]
fn good_value_of_each_row_is_read_from_both_variables() {
    for (field, part) in options() {
        assert_ne!(part.good, default_of(field), "{}", field.name);
        let all = good(&[(&variable(field), part.good)]);
        assert_eq!((field.show)(&all), part.good);
        let own = good(&[(&own_variable(field), part.good)]);
        assert_eq!(
            (part.show)(&own.caches["rows"]),
            Some(part.good.to_string()),
            "{}",
            field.name
        );
        assert_eq!((field.show)(&own), default_of(field), "{}", field.name);
    }
}

#[test]
fn bad_value_of_each_row_is_refused_by_the_name_that_set_it() {
    for (field, part) in options() {
        for name in [variable(field), own_variable(field)] {
            let line = why(&name, part.bad);
            assert!(
                line.starts_with(&format!("{name}={}: ", part.bad)),
                "{line}"
            );
            assert!(line.contains("must be"), "{line}");
        }
        let mut bad = CacheSettings::default();
        if (part.set)(&mut bad, part.bad).is_err() {
            continue; // a program cannot write it
        }
        let error = resolve(&Settings::default(), &bad).expect_err(field.name);
        let expected = format!("{} of cache rows=", field.name);
        assert!(lines(&error)[0].starts_with(&expected), "{error}");
    }
}

#[test]
fn own_variable_wins_over_code_and_code_over_the_default_for_all_caches() {
    for (field, part) in options() {
        let (name, default) = (field.name, default_of(field));
        let nothing = CacheSettings::default();
        let all = good(&[(&variable(field), part.good)]);
        let own = good(&[
            (&variable(field), default.as_str()),
            (&own_variable(field), part.good),
        ]);
        for (settings, code, expected) in [
            (&Settings::default(), nothing.clone(), default.as_str()),
            (&all, nothing, part.good),
            (&all, code(part, &default), default.as_str()),
            (&Settings::default(), code(part, part.good), part.good),
            (&own, code(part, &default), part.good),
        ] {
            let options = resolve(settings, &code).expect(name);
            assert_eq!((part.resolved)(&options), expected, "{name}: {code:?}");
        }
    }
}

#[test]
fn code_that_hides_a_variable_is_reported_with_the_variable_that_wins() {
    for (field, part) in options() {
        let (name, default) = (field.name, default_of(field));
        // Set to what the default is anyway: the operator wants it all the same.
        let all = good(&[(&variable(field), default.as_str())]);
        let hidden = resolve(&all, &code(part, part.good)).expect(name).hidden;
        assert_eq!(hidden.len(), 1, "{name}");
        assert_eq!(hidden[0].cache, "rows");
        assert_eq!(hidden[0].setting, variable(field));
        assert_eq!(hidden[0].value, default);
        assert!(
            hidden[0].reason.contains(&own_variable(field)),
            "{hidden:?}"
        );
        assert!(hidden[0].reason.contains(part.good), "{hidden:?}");

        let not_hidden = [
            (all.clone(), CacheSettings::default()),
            (all.clone(), code(part, &default)),
            (Settings::default(), code(part, part.good)),
            (
                good(&[
                    (&variable(field), default.as_str()),
                    (&own_variable(field), part.good),
                ]),
                code(part, part.good),
            ),
        ];
        for (settings, code) in not_hidden {
            let options = resolve(&settings, &code).expect(name);
            assert_eq!(options.hidden, [], "{name}: {code:?}");
        }
    }
}

#[test]
fn setting_in_the_file_that_code_hides_is_reported_with_its_file() {
    let file = with_file("ttl = \"30s\"\n", &[]).expect("a good file");
    let ttl = CacheSettings {
        ttl: Some(Duration::from_secs(10)),
        ..Default::default()
    };
    let hidden = resolve(&file, &ttl).expect("good").hidden;
    assert!(
        hidden[0].setting.ends_with("unstale.toml: ttl"),
        "{hidden:?}"
    );
}

#[test]
fn bytes_for_all_caches_are_ignored_where_nothing_weighs_and_refused_for_one() {
    let all = good(&[("UNSTALE_MAX_BYTES", "1MiB")]);
    let nothing = CacheSettings::default();
    let plain = all
        .for_cache("rows", &nothing, Abilities::default())
        .expect("a cache without a weigher is built");
    assert_eq!(plain.max_bytes, None);
    assert_eq!(plain.hidden.len(), 1);
    assert_eq!(plain.hidden[0].setting, "UNSTALE_MAX_BYTES");
    assert_eq!(plain.hidden[0].reason, "the cache has no weigher");
    let weighed = resolve(&all, &nothing).expect("good");
    assert_eq!((weighed.max_bytes, weighed.hidden), (Some(1 << 20), vec![]));

    let in_settings = Settings {
        max_bytes: Some(7),
        ..Settings::default()
    };
    let plain = in_settings
        .for_cache("rows", &nothing, Abilities::default())
        .expect("a cache without a weigher is built");
    assert_eq!(
        (plain.max_bytes, &*plain.hidden[0].setting),
        (None, "max_bytes")
    );

    let own = good(&[("UNSTALE_CACHES__ROWS__MAX_BYTES", "1MiB")]);
    let in_code = CacheSettings {
        max_bytes: Some(Switch::On(1)),
        ..Default::default()
    };
    for (settings, code, name) in [
        (&own, &nothing, "UNSTALE_CACHES__ROWS__MAX_BYTES=1MiB: "),
        (&all, &in_code, "max_bytes of cache rows=1: "),
    ] {
        let error = settings
            .for_cache("rows", code, Abilities::default())
            .expect_err("no weigher");
        assert!(lines(&error)[0].starts_with(name), "{error}");
        assert!(lines(&error)[0].contains("needs `.weigher("), "{error}");
    }
}

#[test]
fn reload_ahead_is_a_share_or_a_time() {
    for (text, expected) in [
        ("0.8", Some(RefreshAhead::Share(0.8))),
        ("30s", Some(RefreshAhead::Before(Duration::from_secs(30)))),
        (
            "1m 30s",
            Some(RefreshAhead::Before(Duration::from_secs(90))),
        ),
        ("off", None),
    ] {
        let settings = good(&[("UNSTALE_REFRESH_AHEAD", text)]);
        assert_eq!(settings.refresh_ahead, expected, "{text}");
    }
    for (text, hint) in [
        ("30", "a time with a unit, as in 30s, or off"),
        ("soon", "must be a share, as in 0.8, or a time, as in 30s"),
        ("80%", "must be a share, as in 0.8"),
    ] {
        assert!(why("UNSTALE_REFRESH_AHEAD", text).contains(hint), "{text}");
    }
    let gone = bad(&[("UNSTALE_REFRESH_BEFORE", "30s")]);
    assert!(gone[0].contains("no such setting"), "{gone:?}");
}

#[test]
fn help_of_each_row_is_a_few_sentences_and_says_what_off_means() {
    const LONGEST: usize = 220;
    for Field {
        name, help, cache, ..
    } in FIELDS
    {
        assert!(help.len() <= LONGEST, "{name}: {} characters", help.len());
        assert!(help.ends_with('.'), "{name} ends in a fragment: {help}");
        assert!(help.starts_with(char::is_uppercase), "{name}: {help}");
        // A row of a table in Markdown.
        assert!(!help.contains(['|', '\n']), "{name}: {help}");
        let can_be_off = |part: &CacheField| (part.set)(&mut CacheSettings::default(), "off");
        if cache.as_ref().is_some_and(|part| can_be_off(part).is_ok()) {
            let says = help.contains(". off ") || help.contains("on or off");
            assert!(says, "{name} does not say what off means: {help}");
        }
    }
}
