-- Room: addresses of people. What a telephone number, a mail address and a person's entry must look like to be of use.

CREATE FUNCTION submeter.mobile_number(phone text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	-- E.164: country code without zero, at most 15 digits. Mobile numbers of the mainland begin with 13 to 19.
	SELECT CASE WHEN n.number ~ '^\+861[3-9][0-9]{9}$' OR n.number ~ '^\+[1-9][0-9]{6,14}$' AND n.number NOT LIKE '+86%' THEN n.number END
	FROM (SELECT CASE WHEN mobile_number.phone ~ '^1[0-9]{10}$' THEN '+86' || mobile_number.phone ELSE mobile_number.phone END AS number) n
$$;
COMMENT ON FUNCTION submeter.mobile_number(text) IS
'A number that takes SMS, with + and country code (E.164); NULL for landlines of the mainland and what is no number. Abroad mobile numbers cannot be told from others.';

CREATE FUNCTION submeter.phone_fault(phone text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN phone_fault.phone IS NULL OR submeter.mobile_number(phone_fault.phone) IS NOT NULL THEN NULL
		-- Landlines and service numbers of the mainland can be called, though they take no message.
		WHEN phone_fault.phone ~ '^(0[1-9][0-9]{8,10}|400[0-9]{7}|\+86(10[0-9]{8}|[2-9][0-9]{8,10}))$' THEN NULL
		WHEN phone_fault.phone !~ '^\+?[0-9]*$' THEN 'It has something else in it than digits.'
		WHEN phone_fault.phone ~ '^00' THEN 'It begins with 00 in place of +.'
		WHEN phone_fault.phone ~ '^86' THEN 'It has a country code without +.'
		WHEN phone_fault.phone ~ '^(\+86)?1[0-9]{10}$' THEN 'There are no mobile numbers of the mainland that begin so.'
		WHEN phone_fault.phone ~ '^(\+86)?1' THEN 'A mobile number of the mainland has 11 digits.'
		WHEN phone_fault.phone LIKE '+%' THEN 'With its country code a number has 7 to 15 digits and does not begin with 0.'
		ELSE 'It is neither a mobile number nor one with its area or country code.' END
$$;
COMMENT ON FUNCTION submeter.phone_fault(text) IS 'What is wrong with a telephone number, in a sentence; NULL when nothing is.';

CREATE FUNCTION submeter.email_fault(email text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN email_fault.email IS NULL THEN NULL
		WHEN email_fault.email ~ '[[:cntrl:][:space:]]' THEN 'It has blanks or control characters in it.'
		WHEN email_fault.email ~ '[,;<>()\[\]"\\:]' THEN 'It has , ; < > ( ) [ ] " \ or : in it; one address is one mailbox, without name and quotes.'
		WHEN email_fault.email !~ '^[^@]+@[^@]+$' THEN 'It is not of the form mailbox@domain.'
		WHEN substring(email_fault.email FROM '@(.*)$') ~ '[^ -~]' THEN 'Its domain is not in ASCII; write an international one as it is registered (xn--…).'
		WHEN email_fault.email ~ '[^ -~]' THEN 'Its mailbox is not in ASCII, which most mail servers do not take.'
		WHEN length(email_fault.email) > 254 OR position('@' IN email_fault.email) > 65 THEN 'It is longer than 254 characters, or its mailbox than 64.'
		WHEN email_fault.email !~ '^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@' THEN 'Its mailbox begins or ends with a dot or has two in a row.'
		WHEN email_fault.email !~ '@(localhost|([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9])$' THEN 'Its domain is none.' END
$$;
COMMENT ON FUNCTION submeter.email_fault(text) IS 'What is wrong with a mail address, in a sentence; NULL when nothing is.';

CREATE FUNCTION submeter.channels_fault(channels text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN coalesce(cardinality(channels_fault.channels), 0) NOT BETWEEN 1 AND 20 OR array_ndims(channels_fault.channels) <> 1 THEN 'There are 1 to 20 of them, in the order in which they are tried.'
		WHEN (SELECT count(DISTINCT c) FROM unnest(channels_fault.channels) c) <> cardinality(channels_fault.channels) THEN 'One is there twice, or empty.'
		ELSE (SELECT format('"%s" cannot be the name of a channel.', left(c.name, 40)) FROM unnest(channels_fault.channels) WITH ORDINALITY c(name, ord)
			WHERE c.name !~ '^[a-z][a-z0-9_]{0,30}$' ORDER BY c.ord LIMIT 1) END
$$;
COMMENT ON FUNCTION submeter.channels_fault(text[]) IS 'What is wrong with a person''s order of channels, in a sentence; NULL when nothing is.';

CREATE FUNCTION submeter.missing_channels(site_id int, channels text[]) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(c.name, ', ' ORDER BY c.ord) FROM unnest(missing_channels.channels) WITH ORDINALITY c(name, ord)
	WHERE c.name <> 'file' AND NOT EXISTS (SELECT FROM submeter.notice_channel w WHERE w.site_id = missing_channels.site_id AND w.channel = c.name)
$$;
COMMENT ON FUNCTION submeter.missing_channels(int, text[]) IS 'Those of a person''s channels that the site does not have yet; NULL when it has all.';

CREATE FUNCTION submeter.name_fault(name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN btrim(coalesce(name_fault.name, '')) = '' THEN 'It is empty.'
		WHEN name_fault.name ~ '[[:cntrl:]]' THEN 'It has line breaks or other control characters in it.'
		WHEN length(name_fault.name) > 100 THEN 'It has more than 100 letters.' END
$$;
COMMENT ON FUNCTION submeter.name_fault(text) IS 'What is wrong with a person''s name, in a sentence; NULL when nothing is.';

CREATE FUNCTION submeter.check_contact() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- authorize: runs inside a statement that row-level security already let through.
	wrong record;
	missing text;
BEGIN
	-- The same number is written one way only: by it a person of several shops is known.
	NEW.phone := regexp_replace(NEW.phone, '^\+86(1[3-9][0-9]{9})$', '\1');
	SELECT f.what, f.value, f.fault, f.hint INTO wrong
	FROM (VALUES
		(1, 'name', NEW.name, submeter.name_fault(NEW.name), 'Names have one line of up to 100 letters.'),
		(2, 'telephone number', NEW.phone, submeter.phone_fault(NEW.phone), 'Write 13800000000, 02012345678, or +85251234567 for a number abroad.'),
		(3, 'mail address', NEW.email, submeter.email_fault(NEW.email), 'Write it like owner@shop.example.'),
		(4, 'order of channels', NEW.channels::text, submeter.channels_fault(NEW.channels), 'SELECT channel FROM submeter.notice_channel lists the channels besides file; set_channel() sets one up.')
	) f(ord, what, value, fault, hint)
	WHERE f.fault IS NOT NULL ORDER BY f.ord LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the %s of a person is not usable: %s', wrong.what, quote_nullable(regexp_replace(left(wrong.value, 60), '[[:cntrl:]]', '?', 'g'))),
			DETAIL = wrong.fault, HINT = wrong.hint;
	END IF;
	-- People are entered before channels are set up, and restored before them: worth a word, no refusal.
	missing := submeter.missing_channels(NEW.site_id, NEW.channels);
	IF missing IS NOT NULL THEN
		RAISE WARNING USING MESSAGE = format('the site has no channel %s yet', missing), DETAIL = 'Until it has, it is passed over and the next one is used.', HINT = 'set_channel() sets one up.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION submeter.check_contact() IS
'Trigger of contact: name, telephone number, mail address and channels can be used, or 22023 says what is wrong with which; a warning names channels the site does not have yet. +86 before a mobile number of the mainland is left out.';
