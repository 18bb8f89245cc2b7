-- Room: tariff. What a definition may say, what usage would cost under it, and the verb that writes one.

CREATE FUNCTION submeter.check_tariff(definition jsonb, prices jsonb DEFAULT NULL) RETURNS void
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'submeter_check_tariff';
COMMENT ON FUNCTION submeter.check_tariff(jsonb, jsonb) IS
'Nothing when the tariff definition is sound. Otherwise 22023 with the place in the document and what to write. With prices, such as named_prices() gives, every name the definition refers to must be among them; without, any name will do.';

CREATE FUNCTION submeter.named_prices(site_id int, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(jsonb_object_agg(n.name, n.price), '{}')
FROM (
	SELECT DISTINCT ON (p.name) p.name, p.price
	FROM submeter.price_item p
	WHERE p.site_id = named_prices.site_id AND p.valid_from <= named_prices.at
	ORDER BY p.name, p.valid_from DESC, p.revision DESC
) AS n
$$;
COMMENT ON FUNCTION submeter.named_prices(int, timestamptz) IS
'The named prices of a site in force at a time, {"base": 0.5802, ...}: what {"ref": "base"} in a tariff definition stands for.';

CREATE FUNCTION submeter.quote(definition jsonb, bounds timestamptz[], kwh numeric[], time_zone text,
	calendar jsonb DEFAULT NULL, start_kwh numeric DEFAULT 0, terms jsonb DEFAULT NULL)
RETURNS TABLE (component text, tier int, period text, kwh numeric, price numeric, amount numeric)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'submeter_quote';
COMMENT ON FUNCTION submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb) IS
'What usage would cost, without storing anything: n quantities between n + 1 bounds, start_kwh already used in the tier cycle of the first bound. Each local month is closed and rounded once, as on a bill; the lines add up to that. calendar: {"2026-10-01": {"type": "holiday", "flags": ["hot_day"]}} or rows of calendar_day; terms: household_size, contract_kw, capacity_kva, power_factor as in supply.terms, and prices, {"base": 0.5802}, for what the definition names.';

CREATE FUNCTION submeter.power_factor_table()
RETURNS TABLE (standard numeric, power_factor numeric, adjustment numeric)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 123
AS 'MODULE_PATHNAME', 'submeter_power_factor_table';
COMMENT ON FUNCTION submeter.power_factor_table() IS
'By which share of energy and demand a charge changes with the power factor of its cycle (力调电费): 水电财字(83)第215号. Below the last row of a standard 0.02 are added per 0.01.';

CREATE FUNCTION submeter.tariff_schema() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT $schema${
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"title": "Submeter tariff definition",
	"description": "What electricity costs: energy by tier and period, demand, power factor, adders, fees, minimum, tax, rounding. Money in the currency of the site.",
	"type": "object",
	"required": ["energy"],
	"additionalProperties": false,
	"properties": {
		"energy": {
			"description": "Prices per kWh; the first row that matches tier and period wins, a row without one of them matches any. Every tier and period needs a price, every row something no earlier row priced.",
			"type": "array", "minItems": 1, "maxItems": 1000,
			"items": {
				"type": "object", "required": ["price"], "additionalProperties": false,
				"properties": {
					"tier": {"description": "number of the tier, from 1", "type": "integer", "minimum": 1, "maximum": 16},
					"period": {"description": "name of a period", "$ref": "#/$defs/name"},
					"price": {"$ref": "#/$defs/price"}
				}
			}
		},
		"tiers": {
			"type": "object", "required": ["bounds"], "additionalProperties": false,
			"properties": {
				"cycle": {"description": "when tiers start anew: each local calendar month or year, with each billing cycle, or where a season that bounds name (any season, where they name none) begins or ends", "enum": ["month", "year", "cycle", "season"], "default": "month"},
				"mode": {"description": "graduated: each slice at the price of its own tier; volume: all energy of a charge at the tier its total reaches", "enum": ["graduated", "volume"], "default": "graduated"},
				"bounds": {
					"description": "the first row whose season and household fit counts; all rows have the same number of bounds, every day has a row",
					"type": "array", "minItems": 1, "maxItems": 16,
					"items": {
						"type": "object", "required": ["upto_kwh"], "additionalProperties": false,
						"properties": {
							"season": {"description": "only on days of this season", "$ref": "#/$defs/name"},
							"household": {"description": "only for households of at least so many people (household_size of the supply's terms)", "type": "integer", "minimum": 0, "maximum": 1000},
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
		"seasons": {
			"description": "by name the day each year on which a season begins and the one before which it ends; may go over the new year",
			"type": "object", "maxProperties": 16,
			"propertyNames": {"$ref": "#/$defs/name"},
			"additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2, "uniqueItems": true, "items": {"$ref": "#/$defs/day"}}
		},
		"periods": {
			"description": "the parts of a day; the first with a matching window wins, the one without windows is the rest of the day",
			"type": "array", "minItems": 1, "maxItems": 16,
			"items": {
				"type": "object", "required": ["name"], "additionalProperties": false,
				"properties": {
					"name": {"description": "each name once", "$ref": "#/$defs/name"},
					"windows": {
						"description": "of all periods together at most 64; each must decide some minute of some day",
						"type": "array", "minItems": 1, "maxItems": 64,
						"items": {
							"type": "object", "required": ["from", "to"], "additionalProperties": false,
							"properties": {
								"from": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
								"to": {"description": "not part of the window; up to 24:00; earlier than from: on the next day, which then counts as part of the day it began on", "type": "string", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"},
								"seasons": {"description": "only in one of these; any when not given", "type": "array", "minItems": 1, "maxItems": 16, "uniqueItems": true, "items": {"$ref": "#/$defs/name"}},
								"flag": {"description": "only on days with this flag in the site's calendar", "$ref": "#/$defs/name"},
								"days": {"description": "only on these types of day; any when not given", "type": "array", "minItems": 1, "maxItems": 3, "uniqueItems": true, "items": {"enum": ["workday", "weekend", "holiday"]}}
							}
						}
					}
				}
			}
		},
		"tier_adders": {
			"description": "added to the price of each tier in every period; one element per tier",
			"type": "array", "minItems": 1, "maxItems": 16,
			"items": {"$ref": "#/$defs/price"}
		},
		"adders": {
			"description": "paid on every kWh beside the energy price, such as government funds; the power factor does not touch them",
			"type": "array", "minItems": 1, "maxItems": 32,
			"items": {
				"type": "object", "required": ["name", "price"], "additionalProperties": false,
				"properties": {
					"name": {"description": "each name once", "$ref": "#/$defs/name"},
					"price": {"$ref": "#/$defs/price"}
				}
			}
		},
		"fees": {
			"description": "paid for time",
			"type": "array", "minItems": 1, "maxItems": 16,
			"items": {
				"type": "object", "required": ["name", "per", "amount"], "additionalProperties": false,
				"properties": {
					"name": {"description": "each name once", "$ref": "#/$defs/name"},
					"per": {"description": "each local day begun, calendar month or billing cycle", "enum": ["day", "month", "cycle"]},
					"amount": {"$ref": "#/$defs/price"},
					"prorate": {"description": "true: by the days begun of the month or cycle; false: whole from its first day on", "type": "boolean", "default": false}
				}
			}
		},
		"demand": {
			"description": "a price per kW and billing cycle, for the share of its days",
			"type": "object", "required": ["per_kw"], "additionalProperties": false,
			"properties": {
				"per_kw": {"$ref": "#/$defs/price"},
				"basis": {"description": "maximum: highest mean power of a window; contract, capacity: contract_kw, capacity_kva of the supply's terms", "enum": ["maximum", "contract", "capacity"], "default": "maximum"},
				"window_minutes": {"description": "a divisor of 1440, counted from local midnight", "type": "integer", "minimum": 1, "maximum": 1440, "default": 15}
			}
		},
		"power_factor": {
			"description": "a closed charge's energy and demand change by the published table: power_factor_table()",
			"type": "object", "required": ["standard"], "additionalProperties": false,
			"properties": {"standard": {"enum": [0.80, 0.85, 0.90]}}
		},
		"minimum": {"description": "least amount of a closed charge before tax, for the share of the cycle's days", "$ref": "#/$defs/number"},
		"tax_rate": {"description": "share of everything above", "type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.00000001},
		"tax_included": {"description": "true: prices include the tax, nothing is added", "type": "boolean", "default": false},
		"rounding": {
			"description": "how the exact amount of a charge becomes money",
			"type": "object", "additionalProperties": false,
			"properties": {
				"amount": {"description": "half_up and up away from zero, down towards zero", "enum": ["half_up", "down", "up"], "default": "half_up"},
				"digits": {"type": "integer", "minimum": 0, "maximum": 2, "default": 2},
				"kwh_digits": {"description": "a charge's energy is first rounded half up to so many digits of a kWh; null: as measured", "type": ["integer", "null"], "minimum": 0, "maximum": 3, "default": null}
			}
		}
	},
	"$defs": {
		"name": {"description": "not blank, at most 63 bytes", "type": "string", "maxLength": 63, "pattern": "[^ \\t\\r\\n]"},
		"day": {"description": "month and day of any year", "type": "string", "pattern": "^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"},
		"number": {"type": "number", "minimum": 0, "maximum": 1000000, "multipleOf": 0.00000001},
		"price": {
			"oneOf": [
				{"$ref": "#/$defs/number"},
				{
					"description": "value, or the named price ref stands for, x times, rounded half up to digits places, and plus on top; plus has no more places than digits keeps, a price from a value is at most 1000000",
					"type": "object", "additionalProperties": false,
					"oneOf": [{"required": ["value"]}, {"required": ["ref"]}],
					"properties": {
						"value": {"$ref": "#/$defs/number"},
						"ref": {"description": "name of a price the site keeps", "$ref": "#/$defs/name"},
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
'JSON schema (draft 2020-12) of the tariff definitions this version accepts. What a schema cannot say (rising bounds, holes, rows and windows that never match) stands in its descriptions; check_tariff() is the judge.';

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
	PERFORM submeter.check_tariff(create_tariff.definition,
		submeter.named_prices(create_tariff.site_id, create_tariff.valid_from));
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
REVOKE ALL ON FUNCTION submeter.check_tariff(jsonb, jsonb), submeter.tariff_schema(), submeter.power_factor_table(),
	submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION submeter.check_tariff(jsonb, jsonb), submeter.tariff_schema(), submeter.power_factor_table(),
	submeter.quote(jsonb, timestamptz[], numeric[], text, jsonb, numeric, jsonb)
	TO submeter_owner, submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp, submeter_tenant;
-- Row-level security decides whose prices are seen.
REVOKE ALL ON FUNCTION submeter.named_prices(int, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION submeter.named_prices(int, timestamptz)
	TO submeter_owner, submeter_admin, submeter_operator, submeter_cashier, submeter_auditor, submeter_erp;
