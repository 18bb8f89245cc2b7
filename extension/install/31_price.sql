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

CREATE FUNCTION submeter.write_prices(site_id int, prices jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO submeter.price_item (site_id, name, valid_from, revision, price, reason, entered_by)
	SELECT write_prices.site_id, r.name, r.valid_from, coalesce((
			SELECT max(p.revision) + 1 FROM submeter.price_item p
			WHERE p.site_id = write_prices.site_id AND p.name = r.name AND p.valid_from = r.valid_from), 0),
		r.price, r.said, (submeter.me()).login
	FROM jsonb_to_recordset(write_prices.prices) r(name text, valid_from timestamptz, price numeric, said text)
	ORDER BY r.name, r.valid_from
$$;
COMMENT ON FUNCTION submeter.write_prices(int, jsonb) IS 'Writes named prices [{name, valid_from, price, said}], as revisions where the name has a price from that time.';

CREATE FUNCTION submeter.has_priced(site_id int, prices jsonb) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM jsonb_to_recordset(has_priced.prices) r(name text, valid_from timestamptz)
		JOIN submeter.tariff_version v ON v.site_id = has_priced.site_id
			AND jsonb_path_exists(v.definition, '$.**.ref ? (@ == $name)', jsonb_build_object('name', r.name))
		JOIN submeter.charge c ON c.site_id = v.site_id AND c.tariff_id = v.tariff_id AND c.settled_to > r.valid_from)
$$;
COMMENT ON FUNCTION submeter.has_priced(int, jsonb) IS 'Whether something was charged already with one of these named prices after it begins.';

CREATE FUNCTION submeter.load_prices(site_id int, csv text, reason text DEFAULT NULL, dry_run boolean DEFAULT false, as_of timestamptz DEFAULT now())
RETURNS TABLE (line int, name text, valid_from timestamptz, price numeric, previous numeric, outcome text, tariffs bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
	lines jsonb;
	news jsonb;
BEGIN
	PERFORM submeter.authorize('load_prices', load_prices.site_id);
	-- Two lists at once: the second one finds what the first said.
	PERFORM pg_advisory_xact_lock(hashtext('submeter.load_prices'), load_prices.site_id);
	SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.line), '[]'), jsonb_agg(to_jsonb(l) ORDER BY l.line) FILTER (WHERE l.price IS DISTINCT FROM l.previous)
	INTO lines, news
	FROM submeter.price_lines(load_prices.site_id, load_prices.csv, load_prices.reason) l;
	-- Asked for only when something will be written: loading a list again uses up no approval.
	IF news IS NOT NULL AND NOT coalesce(load_prices.dry_run, true) THEN
		PERFORM submeter.require_approval('load_prices', load_prices.site_id, jsonb_build_object('csv', load_prices.csv, 'reason', load_prices.reason));
		IF submeter.has_priced(load_prices.site_id, news) THEN
			PERFORM submeter.run_correction(load_prices.site_id, 'prices', news, coalesce(nullif(btrim(load_prices.reason), ''), 'price list'), false, NULL,
				load_prices.as_of);
		ELSE
			PERFORM submeter.write_prices(load_prices.site_id, news);
		END IF;
	END IF;
	RETURN QUERY
	SELECT l.line, l.name, l.valid_from, l.price, l.previous,
		CASE WHEN l.previous IS NULL THEN 'new' WHEN l.previous = l.price THEN 'unchanged' ELSE 'revised' END,
		submeter.price_uses(load_prices.site_id, l.name)
	FROM jsonb_to_recordset(lines) l(line int, name text, valid_from timestamptz, price numeric, previous numeric)
	ORDER BY l.line;
END
$$;
COMMENT ON FUNCTION submeter.load_prices(int, text, text, boolean, timestamptz) IS
'Loads named prices from a CSV (name, valid_from, price, and if wanted reason): valid_from is a date or time local to the site. A price that is known is left alone; another one from the same time is a revision and needs a reason, of the line or of the call. What was charged with them since is corrected at once, debits put aside as debt; correct_price() shows beforehand what that comes to. Returns what became of each line and how many tariffs refer to the name; with dry_run nothing is written. One line that is wrong refuses the whole file (22023), and every such line is named. Passes the approval hook with {csv, reason}.';
