//! The functions of Helm's templates: sprig's and Helm's own.
//!
//! Each takes its arguments as the template gives them, the piped one last. None does I/O, reads a clock
//! or rolls dice: what would is a mark ([`unforeseeable`]). Go's builtins, `include` and `tpl` are the
//! engine's.

mod args;
mod cases;
mod dates;
mod encode;
mod kinds;
mod layout;
mod lists;
mod maps;
mod numbers;
mod paths;
mod regexes;
mod text;
mod toml_out;
mod unforeseeable;
mod versions;
mod yaml_out;

use args::kept;

use super::value::Value;

pub(in crate::desired::chart) use encode::of_node;
pub(in crate::desired::chart) use versions::satisfies;
pub(in crate::desired::chart) use yaml_out::to_yaml;

/// A function: its arguments, and what is wrong with them in words.
pub(in crate::desired::chart) type Function = fn(&[Value]) -> Result<Value, String>;

/// The function of a name.
pub(in crate::desired::chart) fn find(name: &str) -> Option<Function> {
    let at = FUNCTIONS.binary_search_by(|(own, _)| (*own).cmp(name)).ok()?;
    FUNCTIONS.get(at).map(|(_, function)| *function)
}

/// All of them, by name.
const FUNCTIONS: [(&str, Function); 221] = [
    ("abbrev", text::abbrev),
    ("abbrevboth", text::abbrevboth),
    ("add", numbers::add),
    ("add1", numbers::add1),
    ("add1f", numbers::add1f),
    ("addf", numbers::addf),
    ("adler32sum", kept!(encode::adler32sum)),
    ("ago", dates::ago),
    ("all", kinds::all),
    ("any", kinds::any),
    ("append", lists::append),
    ("atoi", numbers::atoi),
    ("b32dec", kept!(encode::b32dec)),
    ("b32enc", kept!(encode::b32enc)),
    ("b64dec", kept!(encode::b64dec)),
    ("b64enc", kept!(encode::b64enc)),
    ("base", paths::base),
    ("bcrypt", unforeseeable::any),
    ("biggest", numbers::max),
    ("buildCustomCert", unforeseeable::custom_certificate),
    ("camelcase", cases::camelcase),
    ("cat", text::cat),
    ("ceil", numbers::ceil),
    ("chunk", lists::chunk),
    ("clean", paths::clean),
    ("coalesce", kinds::coalesce),
    ("compact", lists::compact),
    ("concat", lists::concat),
    ("contains", text::contains),
    ("date", dates::date),
    ("dateInZone", dates::date_in_zone),
    ("dateModify", dates::date_modify),
    ("date_in_zone", dates::date_in_zone),
    ("date_modify", dates::date_modify),
    ("decryptAES", kept!(unforeseeable::decrypt)),
    ("deepCopy", maps::deep_copy),
    ("deepEqual", kinds::deep_equal),
    ("default", kinds::default),
    ("derivePassword", unforeseeable::any),
    ("dict", maps::dict),
    ("dig", maps::dig),
    ("dir", paths::dir),
    ("div", numbers::div),
    ("divf", numbers::divf),
    ("duration", kept!(dates::duration)),
    ("durationRound", kept!(dates::duration_round)),
    ("empty", kinds::empty),
    ("encryptAES", unforeseeable::any),
    ("ext", paths::ext),
    ("fail", kinds::fail),
    ("first", lists::first),
    ("float64", numbers::float_of),
    ("floor", numbers::floor),
    ("fromJson", encode::from_json),
    ("fromJsonArray", encode::from_json_array),
    ("fromToml", toml_out::from_toml),
    ("fromYaml", encode::from_yaml),
    ("fromYamlArray", encode::from_yaml_array),
    ("genCA", unforeseeable::certificate),
    ("genCAWithKey", unforeseeable::certificate),
    ("genPrivateKey", unforeseeable::any),
    ("genSelfSignedCert", unforeseeable::certificate),
    ("genSelfSignedCertWithKey", unforeseeable::certificate),
    ("genSignedCert", unforeseeable::certificate),
    ("genSignedCertWithKey", unforeseeable::certificate),
    ("get", maps::get),
    ("getHostByName", text::host_by_name),
    ("has", lists::has),
    ("hasKey", maps::has_key),
    ("hasPrefix", text::has_prefix),
    ("hasSuffix", text::has_suffix),
    ("hello", text::hello),
    ("htmlDate", dates::html_date),
    ("htmlDateInZone", dates::html_date_in_zone),
    ("htpasswd", unforeseeable::htpasswd),
    ("indent", text::indent),
    ("initial", lists::initial),
    ("initials", kept!(text::initials)),
    ("int", numbers::int_of),
    ("int64", numbers::int_of),
    ("isAbs", paths::is_abs),
    ("join", text::join),
    ("kebabcase", cases::kebabcase),
    ("keys", maps::keys),
    ("kindIs", kinds::kind_is),
    ("kindOf", kinds::kind_of),
    ("last", lists::last),
    ("list", lists::list),
    ("lookup", kinds::lookup),
    ("lower", text::lower),
    ("max", numbers::max),
    ("maxf", numbers::maxf),
    ("merge", maps::merge),
    ("mergeOverwrite", maps::merge_overwrite),
    ("min", numbers::min),
    ("minf", numbers::minf),
    ("mod", numbers::modulo),
    ("mul", numbers::mul),
    ("mulf", numbers::mulf),
    ("mustAppend", lists::append),
    ("mustChunk", lists::chunk),
    ("mustCompact", lists::compact),
    ("mustDateModify", dates::must_date_modify),
    ("mustDeepCopy", maps::deep_copy),
    ("mustFirst", lists::first),
    ("mustFromJson", encode::must_from_json),
    ("mustFromYaml", encode::must_from_yaml),
    ("mustHas", lists::has),
    ("mustInitial", lists::initial),
    ("mustLast", lists::last),
    ("mustMerge", maps::merge),
    ("mustMergeOverwrite", maps::merge_overwrite),
    ("mustPrepend", lists::prepend),
    ("mustPush", lists::append),
    ("mustRegexFind", regexes::find),
    ("mustRegexFindAll", regexes::find_all),
    ("mustRegexMatch", regexes::is_match),
    ("mustRegexReplaceAll", regexes::replace_all),
    ("mustRegexReplaceAllLiteral", regexes::replace_all_literal),
    ("mustRegexSplit", regexes::split),
    ("mustRest", lists::rest),
    ("mustReverse", lists::reverse),
    ("mustSlice", lists::slice),
    ("mustToDate", dates::must_to_date),
    ("mustToJson", encode::to_json),
    ("mustToPrettyJson", encode::to_pretty_json),
    ("mustToRawJson", encode::to_raw_json),
    ("mustToToml", toml_out::to_toml),
    ("mustToYaml", yaml_out::to_yaml),
    ("mustUniq", lists::uniq),
    ("mustWithout", lists::without),
    ("must_date_modify", dates::must_date_modify),
    ("nindent", text::nindent),
    ("nospace", text::nospace),
    ("now", dates::now),
    ("omit", maps::omit),
    ("osBase", paths::base),
    ("osClean", paths::clean),
    ("osDir", paths::dir),
    ("osExt", paths::ext),
    ("osIsAbs", paths::is_abs),
    ("pick", maps::pick),
    ("pluck", maps::pluck),
    ("plural", text::plural),
    ("prepend", lists::prepend),
    ("push", lists::append),
    ("quote", text::quote),
    ("randAlpha", unforeseeable::rand_text),
    ("randAlphaNum", unforeseeable::rand_text),
    ("randAscii", unforeseeable::rand_text),
    ("randBytes", unforeseeable::rand_bytes),
    ("randInt", unforeseeable::rand_int),
    ("randNumeric", unforeseeable::rand_text),
    ("regexFind", regexes::find),
    ("regexFindAll", regexes::find_all),
    ("regexMatch", regexes::is_match),
    ("regexQuoteMeta", regexes::quote_meta),
    ("regexReplaceAll", regexes::replace_all),
    ("regexReplaceAllLiteral", regexes::replace_all_literal),
    ("regexSplit", regexes::split),
    ("repeat", text::repeat),
    ("replace", text::replace),
    ("required", kinds::required),
    ("rest", lists::rest),
    ("reverse", lists::reverse),
    ("round", numbers::round),
    ("semver", versions::semver),
    ("semverCompare", versions::semver_compare),
    ("seq", numbers::seq),
    ("set", maps::set),
    ("sha1sum", kept!(encode::sha1sum)),
    ("sha256sum", kept!(encode::sha256sum)),
    ("sha512sum", kept!(encode::sha512sum)),
    ("shuffle", unforeseeable::shuffle),
    ("slice", lists::slice),
    ("snakecase", cases::snakecase),
    ("sortAlpha", text::sort_alpha),
    ("split", text::split),
    ("splitList", text::split_list),
    ("splitn", text::splitn),
    ("squote", text::squote),
    ("sub", numbers::sub),
    ("subf", numbers::subf),
    ("substr", text::substr),
    ("swapcase", text::swapcase),
    ("ternary", kinds::ternary),
    ("title", text::title),
    ("toDate", dates::to_date),
    ("toDecimal", numbers::to_decimal),
    ("toJson", encode::to_json),
    ("toPrettyJson", encode::to_pretty_json),
    ("toRawJson", encode::to_raw_json),
    ("toString", text::to_string),
    ("toStrings", text::to_strings),
    ("toToml", toml_out::to_toml),
    ("toYaml", yaml_out::to_yaml),
    ("toYamlPretty", yaml_out::to_yaml_pretty),
    ("trim", text::trim),
    ("trimAll", text::trim_all),
    ("trimPrefix", text::trim_prefix),
    ("trimSuffix", text::trim_suffix),
    ("trimall", text::trim_all),
    ("trunc", text::trunc),
    ("tuple", lists::list),
    ("typeIs", kinds::type_is),
    ("typeIsLike", kinds::type_is_like),
    ("typeOf", kinds::type_of),
    ("uniq", lists::uniq),
    ("unixEpoch", dates::unix_epoch),
    ("unset", maps::unset),
    ("until", numbers::until),
    ("untilStep", numbers::until_step),
    ("untitle", text::untitle),
    ("upper", text::upper),
    ("urlJoin", paths::url_join),
    ("urlParse", paths::url_parse),
    ("uuidv4", unforeseeable::uuid),
    ("values", maps::values),
    ("without", lists::without),
    ("wrap", text::wrap),
    ("wrapWith", text::wrap_with),
];

#[cfg(test)]
mod tests {
    use super::super::value::{MARK, Value};
    use super::*;

    #[test]
    fn every_function_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FUNCTIONS.iter().all(|(name, _)| find(name).is_some()));
        for absent in ["env", "expandenv", "include", "tpl", "printf", ""] {
            assert!(find(absent).is_none(), "{absent}");
        }
    }

    /// Whatever it is given, a function answers, and no text that it makes is out of bounds.
    #[test]
    fn no_function_panics() {
        let map = Value::empty_map();
        let itself = Value::empty_map();
        assert!(find("set").is_some_and(|set| {
            set(&[itself.clone(), Value::text("own"), itself.clone()]).is_ok()
        }));
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(0),
            Value::Int(3),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Float(-1.5),
            Value::Float(f64::NAN),
            Value::Float(1e300),
            Value::text(""),
            Value::text("1.2-x"),
            Value::text("h\u{e9}llo w\u{1f600}rld\n- a: [\"%41\\"),
            Value::text("(?P<a>x)*[^"),
            Value::text(format!("a{MARK}b")),
            Value::list(vec![]),
            Value::list(vec![Value::Int(1), Value::Null, Value::text("b")]),
            map,
            itself,
            find("now").and_then(|now| now(&[]).ok()).unwrap_or_default(),
        ];
        let answer = |name: &str, function: Function, args: &[Value]| {
            if let Ok(Value::Text(text)) = function(args) {
                assert!(text.len() <= args::TEXT_MAX, "{name} {args:?}");
            }
        };
        for (name, function) in FUNCTIONS {
            // A map that holds itself can't be shown, so that `toString` is the engine's to test.
            answer(name, function, &[]);
            for a in &values {
                answer(name, function, std::slice::from_ref(a));
                for b in &values {
                    answer(name, function, &[a.clone(), b.clone()]);
                    for c in &values {
                        answer(name, function, &[a.clone(), b.clone(), c.clone()]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_random_stays_recognisable() {
        let call = |name: &str, args: &[Value]| {
            find(name).ok_or(name.to_owned()).and_then(|function| function(args))
        };
        let random = call("randAlphaNum", &[Value::Int(16)]).expect("a mark");
        assert_eq!(args::strval(&random).chars().count(), 16);
        for name in [
            "b64enc",
            "b32enc",
            "sha1sum",
            "sha256sum",
            "sha512sum",
            "adler32sum",
            "upper",
            "lower",
            "title",
            "quote",
            "squote",
            "trim",
            "nospace",
            "toJson",
            "toYaml",
            "initials",
            "int",
            "float64",
            "add1",
            "toString",
            "snakecase",
            "swapcase",
            "shuffle",
            "atoi",
            "b64dec",
        ] {
            let made = call(name, std::slice::from_ref(&random)).unwrap_or_default();
            assert!(args::strval(&made).contains(MARK), "{name}: {made:?}");
        }
        let cut = call("trunc", &[Value::Int(5), random.clone()]).expect("a mark");
        assert_eq!(args::strval(&cut).chars().count(), 5);
        for name in ["genCA", "genSelfSignedCert"] {
            let made = call(name, &[Value::text("ca"), Value::Int(365)]).expect("a map");
            assert!(args::is_marked(&made.get("Cert")) && args::is_marked(&made.get("Key")));
        }
    }
}
