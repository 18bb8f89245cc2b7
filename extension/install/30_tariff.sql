-- Room: tariff. What a definition may say, what usage would cost under it, and the verb that writes one.

CREATE FUNCTION submeter.check_tariff(definition jsonb) RETURNS void
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_check_tariff';
COMMENT ON FUNCTION submeter.check_tariff(jsonb) IS
'Nothing when the tariff definition is sound. Otherwise 22023, or 0A000 for what the format knows and this version does not compute, with the place in the document and what to write.';

CREATE FUNCTION submeter.quote(definition jsonb, bounds timestamptz[], kwh numeric[], time_zone text,
	calendar jsonb DEFAULT NULL, start_kwh numeric DEFAULT 0, terms jsonb DEFAULT NULL)
RETURNS TABLE (component text, tier int, period text, kwh numeric, price numeric, amount numeric)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 3
AS 'MODULE_PATHNAME', 'submeter_quote';
COMMENT ON FUNCTION submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb) IS
'What usage would cost, without storing anything: n quantities between n + 1 bounds, start_kwh already used in the month of the first bound. Each local month is rounded once, as on a bill; the lines, one per tier used, add up to that.';

CREATE FUNCTION submeter.tariff_schema() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT $schema${
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"title": "Submeter tariff definition",
	"description": "A flat price or graduated tiers that start anew each local calendar month. Money per kWh in the currency of the site.",
	"type": "object",
	"required": ["energy"],
	"additionalProperties": false,
	"properties": {
		"energy": {
			"description": "Prices; the first row that matches a tier wins, a row without tier matches all. Every tier needs a price, every row a tier that no earlier row priced.",
			"type": "array", "minItems": 1, "maxItems": 1000,
			"items": {
				"type": "object", "required": ["price"], "additionalProperties": false,
				"properties": {
					"tier": {"description": "number of the tier, from 1", "type": "integer", "minimum": 1, "maximum": 16},
					"price": {"$ref": "#/$defs/price"}
				}
			}
		},
		"tiers": {
			"type": "object", "required": ["bounds"], "additionalProperties": false,
			"properties": {
				"cycle": {"description": "tiers start anew each local calendar month", "enum": ["month"], "default": "month"},
				"mode": {"description": "each slice at the price of its own tier", "enum": ["graduated"], "default": "graduated"},
				"bounds": {
					"type": "array", "minItems": 1, "maxItems": 1,
					"items": {
						"type": "object", "required": ["upto_kwh"], "additionalProperties": false,
						"properties": {
							"upto_kwh": {
								"description": "upper bounds of all tiers but the last, up to and including, in rising order; real numbers with at most 3 decimals",
								"type": "array", "minItems": 1, "maxItems": 15, "uniqueItems": true,
								"items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000000000, "multipleOf": 0.001}
							}
						}
					}
				}
			}
		},
		"tier_adders": {
			"description": "added to the price of each tier; one element per tier",
			"type": "array", "minItems": 1, "maxItems": 16,
			"items": {"$ref": "#/$defs/price"}
		},
		"adders": {
			"description": "paid on every kWh beside the energy price, such as government funds",
			"type": "array", "minItems": 1, "maxItems": 32,
			"items": {
				"type": "object", "required": ["name", "price"], "additionalProperties": false,
				"properties": {
					"name": {"description": "not blank, each name once", "type": "string", "pattern": "[^ \\t\\r\\n]"},
					"price": {"$ref": "#/$defs/price"}
				}
			}
		},
		"rounding": {
			"description": "how a month's exact amount becomes money",
			"type": "object", "additionalProperties": false,
			"properties": {
				"amount": {"description": "half_up and up away from zero, down towards zero", "enum": ["half_up", "down", "up"], "default": "half_up"},
				"digits": {"type": "integer", "minimum": 0, "maximum": 2, "default": 2},
				"kwh_digits": {"type": "null"}
			}
		}
	},
	"$defs": {
		"number": {"type": "number", "minimum": 0, "maximum": 1000000, "multipleOf": 0.00000001},
		"price": {
			"oneOf": [
				{"$ref": "#/$defs/number"},
				{
					"description": "value x times, rounded half up to digits places, and plus on top; plus has no more places than digits keeps, the price is at most 1000000",
					"type": "object", "required": ["value"], "additionalProperties": false,
					"properties": {
						"value": {"$ref": "#/$defs/number"},
						"times": {"type": "number", "minimum": 0, "maximum": 1000, "multipleOf": 0.00000001, "default": 1},
						"plus": {"$ref": "#/$defs/number", "default": 0},
						"digits": {"type": "integer", "minimum": 0, "maximum": 8, "default": 8}
					}
				}
			]
		}
	}
}$schema$::jsonb
$$;
COMMENT ON FUNCTION submeter.tariff_schema() IS
'JSON schema (draft 2020-12) of the tariff definitions this version accepts. What a schema cannot say (rising bounds, holes, rows that never match) stands in its descriptions; check_tariff() is the judge.';

CREATE FUNCTION submeter.create_tariff(site_id int, code text, definition jsonb, valid_from timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	wanted_id bigint;
	known jsonb;
BEGIN
	PERFORM submeter.authorize('create_tariff', create_tariff.site_id);
	PERFORM submeter.require_text('code', create_tariff.code);
	IF create_tariff.definition IS NULL OR create_tariff.valid_from IS NULL OR create_tariff.valid_from = 'infinity' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('tariff %s needs a definition and a date', create_tariff.code),
			DETAIL = CASE WHEN create_tariff.definition IS NULL THEN 'The argument definition is NULL.'
				ELSE 'The argument valid_from is NULL or infinity.' END,
			HINT = 'Pass a definition such as {"energy": [{"price": 0.8}]} and the time from which it is in force.';
	END IF;
	PERFORM submeter.check_tariff(create_tariff.definition);
	SELECT t.tariff_id INTO wanted_id FROM submeter.tariff t
	WHERE t.site_id = create_tariff.site_id AND t.code = create_tariff.code;
	SELECT v.definition INTO known FROM submeter.tariff_version v
	WHERE v.site_id = create_tariff.site_id AND v.tariff_id = wanted_id AND v.valid_from = create_tariff.valid_from
	ORDER BY v.revision DESC LIMIT 1;
	IF known = create_tariff.definition THEN
		RETURN wanted_id;
	END IF;
	IF known IS NULL THEN
		-- Asked for only when something will be written: repeating a call uses up no approval. The date is in UTC, so that
		-- asking and calling may happen in sessions with different time zones.
		PERFORM submeter.require_approval('create_tariff', create_tariff.site_id, jsonb_build_object(
			'code', create_tariff.code, 'definition', create_tariff.definition,
			'valid_from_utc', create_tariff.valid_from AT TIME ZONE 'UTC'));
		-- Two callers may meet here: the second one waits for the first and then finds its rows.
		INSERT INTO submeter.tariff (site_id, code)
		VALUES (create_tariff.site_id, create_tariff.code)
		ON CONFLICT (site_id, code) DO NOTHING;
		SELECT t.tariff_id INTO STRICT wanted_id FROM submeter.tariff t
		WHERE t.site_id = create_tariff.site_id AND t.code = create_tariff.code;
		INSERT INTO submeter.tariff_version (site_id, tariff_id, valid_from, definition)
		VALUES (create_tariff.site_id, wanted_id, create_tariff.valid_from, create_tariff.definition)
		ON CONFLICT (site_id, tariff_id, valid_from, revision) DO NOTHING;
		SELECT v.definition INTO STRICT known FROM submeter.tariff_version v
		WHERE v.site_id = create_tariff.site_id AND v.tariff_id = wanted_id AND v.valid_from = create_tariff.valid_from
	ORDER BY v.revision DESC LIMIT 1;
	END IF;
	IF known <> create_tariff.definition THEN
		RAISE EXCEPTION USING ERRCODE = '23505',
			MESSAGE = format('tariff %s has another version from %s', create_tariff.code, create_tariff.valid_from),
			DETAIL = 'A tariff says one thing at a time, and what a version said stays on record.',
			HINT = 'Pass a later valid_from for the new prices, or another code.';
	END IF;
	RETURN wanted_id;
END
$$;
COMMENT ON FUNCTION submeter.create_tariff(int, text, jsonb, timestamptz) IS
'Writes a tariff, or a further version of an existing code, in force from valid_from; returns its tariff_id. Repeating a call changes nothing; another definition from the same time is refused with 23505.';

ALTER FUNCTION submeter.create_tariff(int, text, jsonb, timestamptz) OWNER TO submeter_owner;
REVOKE ALL ON FUNCTION submeter.create_tariff(int, text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION submeter.create_tariff(int, text, jsonb, timestamptz) TO submeter_admin;
-- Pure functions of their arguments: whoever works with prices, tenants included, may compute with them.
REVOKE ALL ON FUNCTION submeter.check_tariff(jsonb), submeter.tariff_schema(),
	submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION submeter.check_tariff(jsonb), submeter.tariff_schema(),
	submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb)
	TO submeter_owner, submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp, submeter_tenant;
