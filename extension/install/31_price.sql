-- Room: named prices. What the grid charges under a name; tariffs refer to it, so one file changes them all.

CREATE FUNCTION submeter.price_uses(site_id int, name text) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT count(DISTINCT v.tariff_id) FROM submeter.tariff_version v
	WHERE v.site_id = price_uses.site_id
		AND jsonb_path_exists(v.definition, '$.**.ref ? (@ == $name)', jsonb_build_object('name', price_uses.name))
$$;
COMMENT ON FUNCTION submeter.price_uses(int, text) IS 'How many tariffs of a site refer to a named price.';

CREATE FUNCTION submeter.price_at(site_id int, name text, valid_from timestamptz)
RETURNS TABLE (price numeric, revision int)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.price, p.revision FROM submeter.price_item p
	WHERE p.site_id = price_at.site_id AND p.name = price_at.name AND p.valid_from = price_at.valid_from
	ORDER BY p.revision DESC LIMIT 1
$$;
COMMENT ON FUNCTION submeter.price_at(int, text, timestamptz) IS 'What a named price was last said to be from exactly this time on; no row when nothing was said.';

CREATE FUNCTION submeter.price_lines(site_id int, csv text, reason text)
RETURNS TABLE (line int, name text, valid_from timestamptz, price numeric, previous numeric, revision int, said text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	zone text := (SELECT s.time_zone FROM submeter.site s WHERE s.site_id = price_lines.site_id);
	first_line jsonb := '{}';
	faults text[] := '{}';
	fault text;
BEGIN
	FOR item IN
		SELECT r.line, r.record ->> 'name' AS name, r.record ->> 'valid_from' AS valid_from, r.record ->> 'price' AS price, r.record ->> 'reason' AS reason
		FROM submeter.csv_records(price_lines.csv, '{name,valid_from,price}', '{reason}') r
	LOOP
		line := item.line;
		name := item.name;
		valid_from := submeter.csv_time(item.valid_from, zone);
		price := CASE WHEN item.price ~ '^\d{1,7}(\.\d{1,8})?$' THEN item.price::numeric END;
		said := coalesce(item.reason, nullif(btrim(price_lines.reason), ''));
		fault := CASE
			WHEN name IS NULL OR name !~ '^[a-z][a-z0-9_]{0,62}$' THEN format('%s is not a name (lower-case letters, digits and _)', coalesce('"' || name || '"', 'nothing'))
			WHEN valid_from IS NULL OR extract(year FROM valid_from) NOT BETWEEN 1990 AND 2200 THEN format('%s is not a date', coalesce('"' || item.valid_from || '"', 'nothing'))
			WHEN price IS NULL OR price > 1000000 THEN format('%s is not a price (at most 8 decimals)', coalesce('"' || item.price || '"', 'nothing'))
			WHEN first_line ? concat(name, ' ', valid_from) THEN format('%s from %s stands in line %s already', name, item.valid_from, first_line ->> concat(name, ' ', valid_from)) END;
		IF fault IS NULL THEN
			first_line := first_line || jsonb_build_object(concat(name, ' ', valid_from), line);
			SELECT p.price, p.revision INTO previous, revision FROM submeter.price_at(price_lines.site_id, name, valid_from) p;
			IF previous <> price AND said IS NULL THEN
				fault := format('%s from %s is %s already; another price needs a reason', name, item.valid_from, trim_scale(previous));
			END IF;
		END IF;
		IF fault IS NULL THEN
			RETURN NEXT;
		ELSE
			faults := faults || format('line %s: %s', line, fault);
		END IF;
	END LOOP;
	PERFORM submeter.refuse_lines('the price list cannot be loaded', faults);
END
$$;
COMMENT ON FUNCTION submeter.price_lines(int, text, text) IS
'Checked lines of a price list beside what is on record for the same name and time; 22023 names every line that is wrong.';

CREATE FUNCTION submeter.load_prices(site_id int, csv text, reason text DEFAULT NULL, dry_run boolean DEFAULT false)
RETURNS TABLE (line int, name text, valid_from timestamptz, price numeric, previous numeric, outcome text, tariffs bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item record;
	is_asked boolean := coalesce(load_prices.dry_run, true);
BEGIN
	PERFORM submeter.authorize('load_prices', load_prices.site_id);
	-- Two lists at once: the second one finds what the first said.
	PERFORM pg_advisory_xact_lock(hashtext('submeter.load_prices'), load_prices.site_id);
	FOR item IN SELECT * FROM submeter.price_lines(load_prices.site_id, load_prices.csv, load_prices.reason)
	LOOP
		IF NOT is_asked AND item.price IS DISTINCT FROM item.previous THEN
			-- Asked for only when something will be written: loading a list again uses up no approval.
			PERFORM submeter.require_approval('load_prices', load_prices.site_id, jsonb_build_object('csv', load_prices.csv, 'reason', load_prices.reason));
			is_asked := true;
		END IF;
		line := item.line;
		name := item.name;
		valid_from := item.valid_from;
		price := item.price;
		previous := item.previous;
		outcome := CASE WHEN item.previous IS NULL THEN 'new' WHEN item.previous = item.price THEN 'unchanged' ELSE 'revised' END;
		tariffs := submeter.price_uses(load_prices.site_id, item.name);
		IF outcome <> 'unchanged' AND NOT coalesce(load_prices.dry_run, true) THEN
			INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price, reason)
			VALUES (load_prices.site_id, item.name, item.valid_from, coalesce(item.revision + 1, 0), item.price, item.said);
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION submeter.load_prices(int, text, text, boolean) IS
'Loads named prices from a CSV (name, valid_from, price, and if wanted reason): valid_from is a date or time local to the site. A price that is known is left alone; another one from the same time is a revision and needs a reason, of the line or of the call. Returns what became of each line and how many tariffs refer to the name; with dry_run nothing is written. One line that is wrong refuses the whole file (22023), and every such line is named. Passes the approval hook with {csv, reason}.';
