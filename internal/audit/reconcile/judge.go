package reconcile

import (
	"regexp"
	"slices"
	"strings"
)

// catalog is what a cell's database knows, as far as judging a statement needs it.
type catalog struct {
	database string
	// schemas are the tenants' schemas.
	schemas map[string]bool
	// clinical are the names of the tables that are kept by facility, trail those of
	// the audit trail: what is looked for also where no schema is named. all are the
	// names of all tables of tenants.
	clinical, trail, all map[string]bool
	// others are views and tables that are no part of the platform, by name.
	others map[string]bool
	// functions are the server's own, by name; ours those of the schema cell.
	functions, ours map[string]bool
	keywords        map[string]bool
	// declared are the statements of this program's migrations, by their exact
	// rendering; what they are a part of.
	declared map[string]string
}

// Reasons that concern the cell from whatever database they are given in.
const (
	reasonRecording = "it changes what is recorded or who is held by row-level security"
	reasonSettings  = "it changes the server's settings"
	reasonNames     = "it names a tenant's table"
	reasonCopies    = "it copies the whole database"
)

// verdict is what a statement was found to be.
type verdict struct {
	// reason says why it counts; "" for one that reaches no tenant's table.
	reason string
	// schemas and tables name what it names. Without a schema it is of any tenant.
	schemas, tables []string
}

// What runs text or files that the statement itself does not show.
var opaqueWords = map[string]bool{"do": true, "call": true, "execute": true, "load": true, "fastpath": true, "u&": true}

// What CREATE makes that runs later under somebody else's statement.
var opaqueMade = map[string]bool{"function": true, "procedure": true, "rule": true, "trigger": true, "extension": true, "server": true,
	"foreign": true, "publication": true, "subscription": true, "aggregate": true, "operator": true, "cast": true, "language": true, "transform": true}

// The server's own functions that run SQL text, read files or the write-ahead log,
// and those that end a session or a recording.
var opaqueFunctions = regexp.MustCompile(`_to_xml|xml_and|^xml(schema)?$|^lo_|^lo(read|write)$|^pg_(read|ls|stat)_.*file|^pg_(read|ls)_|^pg_stat_file|` +
	`^ts_(stat|rewrite)$|^pg_logical|^pg_(create|copy|drop)_.*slot|^pg_replication|^pg_file|^dblink|^pg_(backup|start_backup|stop_backup)|` +
	`^pg_get_wal|^pg_extension_config_dump|^binary_upgrade|^pg_promote|^pg_switch_wal|^pg_event|^pg_restore`)

// What changes the record itself, wherever it stands in a statement, also in a string.
var recording = regexp.MustCompile(`(?i)\b(log_statement(_sample_rate)?|log_destination|logging_collector|log_min_messages|log_(dis)?connections|` +
	`log_directory|log_filename|log_rotation_\w+|log_truncate_on_rotation|log_line_prefix|log_timezone|log_parameter_max_length\w*|pg_rotate_logfile|` +
	`pg_reload_conf|session_preload_libraries|shared_preload_libraries|local_preload_libraries|session_replication_role|row_security)\b`)

// touchesRecording finds those settings in a statement that could change them.
func touchesRecording(tokens []token) bool {
	if tokens[0].is("show") {
		return false
	}
	for _, t := range tokens {
		if (t.name() || t.kind == value) && recording.MatchString(t.text) {
			return true
		}
	}
	return false
}

// judge says whether a statement reaches a tenant's table, or could.
func (c *catalog) judge(tokens []token) verdict {
	var v verdict
	say := func(reason string) {
		if v.reason == "" {
			v.reason = reason
		}
	}
	if len(tokens) == 0 {
		return v
	}
	if touchesRecording(tokens) {
		say(reasonRecording)
	}
	if made := c.makes(tokens); made != "" {
		say(made)
	}
	for i, t := range tokens {
		if !t.name() {
			continue
		}
		before, after := at(tokens, i-1), at(tokens, i+1)
		if t.kind == word && opaqueWords[t.text] && (i == 0 || t.text == "execute" && !before.is("grant") && !before.is(",") && !after.is("on")) {
			say("what it runs does not show in its text")
		}
		c.name(&v, tokens, i)
		if after.is("(") && c.hidden(tokens, i) {
			say("it calls a function that could reach any table: " + t.text)
		}
	}
	if len(v.tables) > 0 {
		say(reasonNames)
	}
	return v
}

// rows tells whether a statement of a tenant's role counts: it names a clinical
// table or the trail's, or hides what it reaches. Its other DDL, which it has no
// right to, reaches nobody's rows.
func (c *catalog) rows(v verdict) bool {
	if v.reason != "" && v.reason != reasonNames {
		return true
	}
	return slices.ContainsFunc(v.tables, func(t string) bool { return c.clinical[t] || c.trail[t] })
}

// makes says that the statement as a whole is of a kind that counts.
func (c *catalog) makes(tokens []token) string {
	verb := tokens[0].text
	for i, t := range tokens[1:] {
		next := at(tokens, i+2)
		switch {
		case (verb == "create" || verb == "alter") && t.kind == word && opaqueMade[t.text] && i < 4 && !next.is("="):
			return "it makes or changes code that runs under others' statements"
		case verb == "alter" && i == 0 && t.is("system"):
			return reasonSettings
		case verb == "copy" && t.is("program"):
			return "it runs a program on the server"
		case t.is("template") && (next.text == c.database || next.is("=") && at(tokens, i+3).text == c.database):
			return reasonCopies
		}
	}
	return ""
}

// name notes the tables and schemas that the token at i names.
func (c *catalog) name(v *verdict, tokens []token, i int) {
	t, before, after := tokens[i], at(tokens, i-1), at(tokens, i+1)
	if before.is(".") {
		return // a column, or the second part of what was noted at the first
	}
	if c.schemas[t.text] {
		switch {
		case after.is(".") && at(tokens, i+2).text == bookkeeping:
		case after.is(".") && at(tokens, i+2).name():
			v.add(t.text, at(tokens, i+2).text)
		case before.is("schema") && (at(tokens, i-2).is("in") || at(tokens, i-2).is("drop") || at(tokens, i-2).is("import")):
			v.add(t.text, "all tables")
		}
		return
	}
	if after.is(".") {
		if next := at(tokens, i+2); c.others[next.text] && t.text != "pg_catalog" && t.text != "information_schema" && !c.all[next.text] {
			v.add("", t.text+"."+next.text)
		}
		return
	}
	if after.is("(") && !relation[before.text] && !c.clinical[t.text] {
		return
	}
	if c.clinical[t.text] || c.trail[t.text] || (relation[before.text] && (c.all[t.text] || c.others[t.text])) {
		v.add("", t.text)
	}
}

// bookkeeping is the table in each schema that says which migrations it has.
const bookkeeping = "schema_version"

// relation are the words that a table's name follows.
var relation = map[string]bool{"from": true, "join": true, "into": true, "update": true, "table": true, "copy": true, "only": true,
	"truncate": true, "lock": true, "using": true, "analyze": true, "vacuum": true, "cluster": true, "on": true, "like": true}

// hidden tells whether the token at i, before a parenthesis, calls a function that
// is not known to be harmless.
func (c *catalog) hidden(tokens []token, i int) bool {
	t, before := tokens[i], at(tokens, i-1)
	if before.is(".") {
		switch schema := at(tokens, i-2).text; {
		case schema == "cell":
			return !c.ours[t.text] && !relation[at(tokens, i-3).text]
		case schema == "pg_catalog":
			return opaqueFunctions.MatchString(t.text)
		case c.schemas[schema] || relation[at(tokens, i-3).text]:
			return false // a table with its columns; judged as a table
		}
		return true
	}
	if opaqueFunctions.MatchString(t.text) {
		return true
	}
	if c.functions[t.text] || t.kind == word && c.keywords[t.text] || c.all[t.text] {
		return false
	}
	// A name with columns behind it: of a table, a constraint, an index, an alias.
	return !relation[before.text] && !slices.Contains([]string{"as", "with", "recursive", "exists", "key", "unique", "constraint", "index",
		"references", "role", "to", "varying", "type", "by", ")"}, before.text)
}

func (v *verdict) add(schema, table string) {
	if schema != "" && !slices.Contains(v.schemas, schema) {
		v.schemas = append(v.schemas, schema)
	}
	if !slices.Contains(v.tables, table) {
		v.tables = append(v.tables, table)
	}
}

func at(tokens []token, i int) token {
	if i < 0 || i >= len(tokens) {
		return token{kind: mark}
	}
	return tokens[i]
}

// statementOf takes a statement's text out of a log line's message; false for a
// line that is none.
func statementOf(message string) (string, bool) {
	if text, ok := strings.CutPrefix(message, "statement: "); ok {
		return text, true
	}
	if strings.HasPrefix(message, "fastpath function call") {
		return "fastpath", true
	}
	if rest, ok := strings.CutPrefix(message, "execute "); ok {
		// execute <portal or statement name>: text; fetch: "execute fetch from <name>: text"
		if _, text, ok := strings.Cut(rest, ": "); ok {
			return text, true
		}
	}
	return "", false
}
