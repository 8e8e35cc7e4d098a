package catalog

import "strings"

// The query reads only system catalogs, so it runs nothing that a church's role has made. It leaves out what belongs to an
// extension, and functions that belong to a type. Names in public have no prefix.
var (
	schemas = `
		SELECT oid, nspname, nspowner, nspacl, CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END AS prefix
		FROM pg_namespace
		WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND (tableoid, oid) NOT IN (SELECT classid, objid FROM implied)`

	relations = `
		SELECT c.*, prefix || relname AS name,
			CASE WHEN relkind IN ('r', 'p') THEN 'table' WHEN relkind = 'f' THEN 'foreign table' WHEN relkind = 'v' THEN 'view'
				WHEN relkind = 'm' THEN 'materialized view' WHEN relkind = 'S' THEN 'sequence' WHEN relkind = 'c' THEN 'type'
				ELSE 'index' END AS kind
		FROM pg_class c JOIN schemas s ON s.oid = relnamespace
		WHERE (c.tableoid, c.oid) NOT IN (SELECT classid, objid FROM implied)`

	// Types that don't come with a table or another type.
	types = `
		SELECT t.*, prefix || typname AS name
		FROM pg_type t JOIN schemas s ON s.oid = typnamespace LEFT JOIN pg_class c ON c.oid = typrelid
		WHERE (typtype IN ('e', 'd', 'r') OR relkind = 'c') AND (t.tableoid, t.oid) NOT IN (SELECT classid, objid FROM implied)`

	functions = `
		SELECT p.*, prefix || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name,
			CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END AS kind
		FROM pg_proc p JOIN schemas s ON s.oid = pronamespace
		WHERE (p.tableoid, p.oid) NOT IN (SELECT classid, objid FROM implied)`

	// Everything with an owner or grants, except indexes, which have their table's.
	owned = `
		SELECT 'database' AS kind, '' AS name, '' AS part_of, datdba AS owner, coalesce(datacl, acldefault('d', datdba)) AS acl
			FROM pg_database WHERE datname = current_database()
		UNION ALL SELECT 'schema', nspname, '', nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM schemas
		UNION ALL SELECT kind, name, '', relowner,
			coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
			FROM relations WHERE relkind NOT IN ('i', 'I', 'c')
		UNION ALL SELECT 'column', name || '.' || attname, name, NULL, attacl
			FROM pg_attribute JOIN relations r ON r.oid = attrelid WHERE attacl IS NOT NULL
		UNION ALL SELECT kind, name, '', proowner, coalesce(proacl, acldefault('f', proowner)) FROM functions
		UNION ALL SELECT 'type', name, '', typowner, coalesce(typacl, acldefault('T', typowner)) FROM types
		UNION ALL SELECT 'default privileges', concat_ws(' ', 'of', ` + roleName("defaclrole") + `, 'on',
				CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
				ELSE 'schemas' END, 'in ' || nspname), '', NULL, defaclacl
			FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace`
)

// Each of these selects facts: the kind and name of an object, the name of the object that contains it, a property and
// its value. Facts without a value are left out.
var parts = []string{
	// A role's own settings apply only to its own sessions.
	`SELECT 'database' AS kind, '' AS name, '' AS part_of, property, value
		FROM pg_database, LATERAL (VALUES
			('connection limit', datconnlimit::text),
			('encoding', pg_encoding_to_char(encoding)),
			('collation', datcollate || ' ' || datctype)) AS v (property, value)
		WHERE datname = current_database()`,
	`SELECT 'setting', split_part(setting, '=', 1) || CASE setrole WHEN 0 THEN '' ELSE ' of ' || ` + roleName("setrole") + ` END, '',
			'value', substr(setting, strpos(setting, '=') + 1)
		FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) AS setting
		WHERE datname = current_database()`,
	`SELECT 'extension', extname, '', 'version', extversion FROM pg_extension`,

	`SELECT kind, name, part_of, 'owner', ` + roleName("owner") + ` FROM owned WHERE owner IS NOT NULL`,
	// MAINTAIN is new in PostgreSQL 17 and part of ALL: whoever has ALL, such as the owner, has it implicitly.
	`SELECT kind, name, part_of, '` + grantsTo + `' || role, string_agg(DISTINCT privilege_type
			|| CASE WHEN is_grantable THEN ', ' || privilege_type || ' WITH GRANT OPTION' ELSE '' END, ', ')
		FROM (SELECT kind, name, part_of, privilege_type, is_grantable AND grantee IS DISTINCT FROM owner AS is_grantable,
				CASE grantee WHEN owner THEN 'the owner' ELSE ` + roleName("grantee") + ` END AS role, grantee IS NOT DISTINCT FROM owner
					OR bool_or(privilege_type = 'TRUNCATE') OVER (PARTITION BY kind, name, grantee) AS maintains
			FROM owned, aclexplode(acl)) AS granted
		WHERE privilege_type <> 'MAINTAIN' OR NOT maintains
		GROUP BY kind, name, part_of, role`,

	`SELECT kind, name, '', property, value
		FROM relations r, LATERAL (VALUES
			('persistence', kind || CASE relpersistence WHEN 'u' THEN ' is unlogged' ELSE ' is logged' END),
			('row security', CASE WHEN relrowsecurity THEN 'row security is on' ELSE 'row security is off' END),
			('forced row security', CASE WHEN relforcerowsecurity THEN 'row security binds the owner too'
				ELSE 'row security spares the owner' END),
			('options', array_to_string(reloptions, ', ')),
			('replica identity', CASE relreplident WHEN 'f' THEN 'full' WHEN 'i' THEN 'an index' WHEN 'n' THEN 'nothing' END),
			('partition key', pg_get_partkeydef(r.oid)),
			('parent', concat_ws(' ', (SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
				FROM pg_inherits WHERE inhrelid = r.oid), pg_get_expr(relpartbound, r.oid)))) AS v (property, value)
		WHERE relkind IN ('r', 'p', 'f')`,
	`SELECT 'column', name || '.' || attname, name, property, value
		FROM relations r JOIN pg_attribute ON attrelid = r.oid LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
			LEFT JOIN pg_collation o ON o.oid = attcollation AND collname <> 'default', LATERAL (VALUES
			('type', format_type(atttypid, atttypmod) || coalesce(' COLLATE ' || quote_ident(collname), '')),
			('default', CASE WHEN attidentity = 'a' THEN 'generated always as identity'
				WHEN attidentity = 'd' THEN 'generated by default as identity'
				WHEN attgenerated = 's' THEN 'generated always as ' || pg_get_expr(adbin, adrelid) || ' stored'
				WHEN attgenerated = 'v' THEN 'generated always as ' || pg_get_expr(adbin, adrelid)
				ELSE pg_get_expr(adbin, adrelid) END),
			('nullability', CASE WHEN NOT attnotnull THEN 'NULL is allowed' WHEN EXISTS (SELECT FROM pg_constraint
				WHERE contype = 'n' AND conrelid = attrelid AND attnum = ANY (conkey) AND NOT convalidated)
				THEN 'NOT NULL is not validated' ELSE 'NULL is not allowed' END)) AS v (property, value)
		WHERE relkind IN ('r', 'p', 'f', 'c') AND attnum > 0 AND NOT attisdropped`,
	// NOT NULL is a fact of the column, although it is also a constraint since PostgreSQL 18.
	`SELECT 'constraint', coalesce(r.name, t.name) || '.' || conname, coalesce(r.name, t.name), property, value
		FROM pg_constraint c LEFT JOIN relations r ON r.oid = conrelid LEFT JOIN types t ON t.oid = contypid, LATERAL (VALUES
			('definition', regexp_replace(pg_get_constraintdef(c.oid), ' NOT (VALID|ENFORCED)$', '')),
			('validity', CASE WHEN convalidated THEN 'constraint is validated' ELSE 'constraint is not validated' END),
			('triggers', CASE WHEN EXISTS (SELECT FROM pg_trigger WHERE tgconstraint = c.oid AND tgenabled <> 'O')
				THEN 'constraint has triggers that are disabled' ELSE 'constraint has no triggers that are disabled' END)) AS v (property, value)
		WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND coalesce(r.oid, t.oid) IS NOT NULL`,
	// An index that belongs to a constraint is described by the constraint.
	`SELECT 'index', i.name, r.name || coalesce('.' || conname, ''), property, value
		FROM pg_index JOIN relations i ON i.oid = indexrelid JOIN relations r ON r.oid = indrelid
			LEFT JOIN pg_constraint ON conindid = indexrelid AND conrelid = indrelid AND contype IN ('p', 'u', 'x'), LATERAL (VALUES
			('definition', CASE WHEN conname IS NULL THEN pg_get_indexdef(indexrelid) END),
			('options', CASE WHEN conname IS NOT NULL THEN array_to_string(i.reloptions, ', ') END),
			('validity', CASE WHEN indisvalid AND indisready THEN 'index is valid' ELSE 'index is invalid' END)) AS v (property, value)`,
	`SELECT 'sequence', s.name, coalesce(t.name || '.' || attname, ''), property, value
		FROM pg_sequence JOIN relations s ON s.oid = seqrelid
			LEFT JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = s.oid AND refobjsubid > 0 AND deptype IN ('a', 'i')
			LEFT JOIN relations t ON t.oid = refobjid LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid, LATERAL (VALUES
			('definition', format('%s from %s to %s, start %s, increment %s, cache %s', format_type(seqtypid, NULL), seqmin, seqmax,
				seqstart, seqincrement, seqcache) || CASE WHEN seqcycle THEN ', cycle' ELSE '' END),
			('column', t.name || '.' || attname)) AS v (property, value)`,

	`SELECT kind, name, '', 'query', pg_get_viewdef(oid) FROM relations WHERE relkind IN ('v', 'm')`,
	`SELECT kind, name, '', property, value
		FROM functions f JOIN pg_language l ON l.oid = prolang, LATERAL (VALUES
			('body', coalesce(pg_get_function_sqlbody(f.oid), prosrc)),
			('arguments', pg_get_function_arguments(f.oid)),
			('result', pg_get_function_result(f.oid)),
			('options', concat_ws(', ', lanname, CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
				CASE WHEN prosecdef THEN 'security definer' END, CASE WHEN proisstrict THEN 'strict' END,
				CASE WHEN proleakproof THEN 'leakproof' END,
				CASE proparallel WHEN 's' THEN 'parallel safe' WHEN 'r' THEN 'parallel restricted' END,
				array_to_string(proconfig, ', ')))) AS v (property, value)`,
	`SELECT 'trigger', name || '.' || tgname, name, property, value
		FROM pg_trigger t JOIN relations r ON r.oid = tgrelid, LATERAL (VALUES
			('definition', pg_get_triggerdef(t.oid)),
			('state', CASE tgenabled WHEN 'O' THEN 'trigger is enabled' WHEN 'D' THEN 'trigger is disabled'
				WHEN 'R' THEN 'trigger fires on a replica alone' ELSE 'trigger fires on a replica too' END)) AS v (property, value)
		WHERE NOT tgisinternal`,
	`SELECT 'rule', name || '.' || rulename, name, property, value
		FROM pg_rewrite w JOIN relations r ON r.oid = ev_class, LATERAL (VALUES
			('definition', pg_get_ruledef(w.oid)),
			('state', CASE ev_enabled WHEN 'D' THEN 'rule is disabled' ELSE 'rule is enabled' END)) AS v (property, value)
		WHERE rulename <> '_RETURN'`,
	`SELECT 'policy', name || '.' || polname, name, 'definition', concat_ws(' ',
			CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END, 'for',
			CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, 'to',
			(SELECT string_agg(` + roleName("member") + `, ', ' ORDER BY member) FROM unnest(polroles) AS member),
			'using ' || pg_get_expr(polqual, polrelid), 'with check ' || pg_get_expr(polwithcheck, polrelid))
		FROM pg_policy JOIN relations r ON r.oid = polrelid`,
	`SELECT 'type', name, '', property, value
		FROM types t, LATERAL (VALUES
			('values', (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid)),
			('base', CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod)
				WHEN 'r' THEN (SELECT format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = t.oid) END),
			('default', typdefault),
			('nullability', CASE WHEN typnotnull THEN 'NULL is not allowed' ELSE 'NULL is allowed' END)) AS v (property, value)`,
}

// The facts are sent only if their fingerprint differs from the given one.
var selectCatalog = `
	WITH implied AS MATERIALIZED (
		SELECT classid, objid FROM pg_depend WHERE deptype = 'e' OR deptype = 'i' AND classid = 'pg_proc'::regclass),
	schemas AS MATERIALIZED (` + schemas + `),
	relations AS MATERIALIZED (` + relations + `),
	types AS MATERIALIZED (` + types + `),
	functions AS MATERIALIZED (` + functions + `),
	owned AS MATERIALIZED (` + owned + `),
	facts AS MATERIALIZED (SELECT * FROM (` + strings.Join(parts, "\n\t\tUNION ALL ") + `) AS f WHERE value <> ''),
	sealed AS (
		SELECT encode(sha256(convert_to(string_agg(line, E'\n' ORDER BY line COLLATE "C"), 'UTF8')), 'hex') AS fingerprint
		FROM (SELECT f::text AS line FROM facts f) AS lines)
	SELECT fingerprint, CASE WHEN fingerprint <> $1 THEN (SELECT json_agg(f) FROM facts f) END FROM sealed`

// roleName is SQL for the name of the role with an oid. A church's role has the name of its database, and as the
// database's owner it is also the role that pg_database_owner stands for.
func roleName(oid string) string {
	return strings.ReplaceAll(`CASE WHEN $ = 0 THEN 'PUBLIC' WHEN pg_get_userbyid($) IN (current_database(), 'pg_database_owner')
		THEN 'the church''s role' ELSE pg_get_userbyid($) END`, "$", oid)
}
