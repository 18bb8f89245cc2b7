#!/usr/bin/env bash
# tariff_schema() is a JSON schema of the 2020-12 draft that a validator nobody here wrote agrees with: the ready-made
# definitions pass it, and whatever check_tariff() accepts of thousands of spoilt copies of them passes it as well.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-schema.XXXXXX)
at_exit rm -rf "$work"
server_start schema || bail 'no server'
server_createdb schema schema || bail 'no database'
server_psql schema schema -c 'SELECT submeter.tariff_schema()' >"$work/schema"
server_psql schema schema -c "SELECT e.definition FROM submeter.tariff_example e ORDER BY e.code" >"$work/examples"

cat >"$work/check.py" <<'END'
import copy, decimal, json, sys
import jsonschema

work, task = sys.argv[1:3]


def read(text):
    return json.loads(text, parse_float=decimal.Decimal)


def text(value):
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + text(v) for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text, value)) + "]"
    return str(value) if isinstance(value, decimal.Decimal) else json.dumps(value)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, path + (key,))


JUNK = [None, True, -1, 0, 3, decimal.Decimal("0.5"), decimal.Decimal("1e-9"), 10**7, "", "peak", "24:00", "12:61", [], {}, [1], {"name": "x"}, {"ref": "base"}]


def changed(definition, path, change):
    copied = copy.deepcopy(definition)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return copied


def spoilt(definition):
    yield from JUNK
    for path in places(definition):
        if not path:
            continue
        for junk in JUNK:
            yield changed(definition, path, lambda parent, key: parent.__setitem__(key, junk))
        yield changed(definition, path, lambda parent, key: parent.__delitem__(key))
        yield changed(definition, path, lambda parent, key: parent.append(parent[key]) if isinstance(parent, list)
                      else parent.__setitem__("surprise", 1))


schema = read(open(work + "/schema").read())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
examples = [read(line) for line in open(work + "/examples") if line.strip()]
if task == "examples":
    print(sum(validator.is_valid(e) for e in examples), "of", len(examples))
elif task == "spoil":
    seen = {}
    for example in examples:
        for definition in spoilt(example):
            seen[text(definition)] = definition
    with open(work + "/spoilt.sql", "w") as out:
        out.write("COPY spoilt (definition, valid) FROM stdin;\n")
        for line, definition in list(seen.items())[::3]:
            out.write(line.replace("\\", "\\\\") + "\t" + ("t" if validator.is_valid(definition) else "f") + "\n")
        out.write("\\.\n")
    print(len(seen) // 3)
END

is "$(/usr/bin/python3 "$work/check.py" "$work" examples 2>&1)" "$(wc -l <"$work/examples") of $(wc -l <"$work/examples")" \
	'every ready-made definition is valid by the published schema'
spoilt=$(/usr/bin/python3 "$work/check.py" "$work" spoil 2>"$work/err") || diag "$(cat "$work/err")"
ok 'thousands of spoilt definitions' test "${spoilt:-0}" -gt 2000
server_psql schema schema >"$work/out" 2>"$work/err" <<-SQL || diag "$(cat "$work/err")"
	CREATE TABLE spoilt (n int GENERATED ALWAYS AS IDENTITY, definition jsonb, valid boolean, accepted boolean, code text, message text);
	\i $work/spoilt.sql
	DO \$\$
	DECLARE
		item record;
		state text;
		place text;
	BEGIN
		FOR item IN SELECT s.n, s.definition FROM spoilt s LOOP
			BEGIN
				state := NULL;
				place := NULL;
				PERFORM submeter.check_tariff(item.definition);
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, place = PG_EXCEPTION_DETAIL;
			END;
			UPDATE spoilt s SET accepted = state IS NULL, code = state, message = place WHERE s.n = item.n;
		END LOOP;
	END \$\$;
SQL
query()
{
	server_psql schema schema -c "$1"
}
is "$(query 'SELECT count(*) FROM spoilt WHERE accepted AND NOT valid')" 0 'what is accepted is valid by the schema' ||
	diag "$(query "SELECT definition FROM spoilt WHERE accepted AND NOT valid LIMIT 10")"
is "$(query "SELECT DISTINCT code FROM spoilt WHERE NOT accepted")" 22023 'whatever is refused is refused as a bad argument' ||
	diag "$(query "SELECT code, message, definition FROM spoilt WHERE NOT accepted AND code <> '22023' LIMIT 5")"
is "$(query "SELECT count(*) FROM spoilt WHERE NOT accepted AND message !~ '\\$'")" 0 'each refusal names the place in the document' ||
	diag "$(query "SELECT message, definition FROM spoilt WHERE NOT accepted AND message !~ '\\$' LIMIT 5")"
ok 'some are still good, many are not' test "$(query 'SELECT count(*) FILTER (WHERE accepted) > 100 AND count(*) FILTER (WHERE NOT valid) > 1000 FROM spoilt')" = t
ok 'the schema alone refuses most of what check_tariff refuses' \
	test "$(query 'SELECT count(*) FILTER (WHERE NOT valid) > 0.6 * count(*) FILTER (WHERE NOT accepted) FROM spoilt')" = t
diag "$(query "SELECT format('%s spoilt, %s accepted, %s not valid', count(*), count(*) FILTER (WHERE accepted), count(*) FILTER (WHERE NOT valid)) FROM spoilt")"
done_testing
