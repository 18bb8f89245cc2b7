-- Nothing is for everybody: PostgreSQL lets PUBLIC execute new functions, the parts above say who may.

REVOKE ALL ON ALL ROUTINES IN SCHEMA submeter FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA submeter FROM PUBLIC;
