package identitygate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// maxBody bounds a submission in bytes: a WebAuthn answer is the largest.
const maxBody = 64 << 10

// maxFields bounds how many fields one has.
const maxFields = 16

// fields lists what each method of each flow takes, besides csrf_token and
// method. What is not listed is refused, so that nothing rides along: Kratos acts
// on some fields whatever the method says.
var fields = map[flowName]map[string][]string{
	login: {
		"password":      {"identifier", "password"},
		"totp":          {"totp_code"},
		"lookup_secret": {"lookup_secret"},
		"webauthn":      {"identifier", "webauthn_login"},
	},
	recovery:     {"code": {"email", "code"}},
	verification: {"code": {"email", "code"}},
	settings: {
		"password":      {"password"},
		"totp":          {"totp_code"},
		"lookup_secret": {"lookup_secret_regenerate", "lookup_secret_reveal", "lookup_secret_confirm"},
		"webauthn":      {"webauthn_register", "webauthn_register_displayname"},
	},
}

// flags are the fields that are true or false.
var flags = map[string]bool{"lookup_secret_regenerate": true, "lookup_secret_reveal": true, "lookup_secret_confirm": true}

// submission is a parsed and checked body.
type submission struct {
	flow   flowName
	flowID string
	method string
	values map[string]string
	json   bool
}

// parse reads the body of a submission strictly: one media type, each field once,
// by its exact name, of the one method that it names. Errors are KindInvalid and
// name the field; 400 for what cannot be read, 415 for another media type.
func parse(flow flowName, flowID, contentType string, body []byte) (submission, error) {
	s := submission{flow: flow, flowID: flowID}
	if len(body) > maxBody {
		return s, httpx.TooLarge(maxBody)
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || len(params) > 1 || len(params) == 1 && !strings.EqualFold(params["charset"], "utf-8") {
		return s, httpx.UnsupportedMedia("application/json or application/x-www-form-urlencoded")
	}
	switch media {
	case "application/json":
		s.json = true
		s.values, err = parseJSON(body)
	case "application/x-www-form-urlencoded":
		s.values, err = parseForm(body)
	default:
		return s, httpx.UnsupportedMedia("application/json or application/x-www-form-urlencoded")
	}
	if err != nil {
		return s, err
	}
	return s, s.check()
}

func (s *submission) check() error {
	s.method = s.values["method"]
	allowed, ok := fields[s.flow][s.method]
	if !ok {
		return tenants.Invalid("body.method", "must be a method of this flow")
	}
	for name, v := range s.values {
		if name != "method" && name != "csrf_token" && !slices.Contains(allowed, name) {
			return tenants.Invalid("body."+clip(name), "is not a field of this method")
		}
		if flags[name] && v != "true" && v != "false" {
			return tenants.Invalid("body."+name, "must be true or false")
		}
		if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return httpx.Malformed("body."+name, "must be valid UTF-8")
		}
	}
	switch {
	case s.method == "totp":
		return s.checkTOTP()
	case s.flow == recovery, s.flow == verification:
		return s.checkCode()
	case s.flow == login && s.method == "password" && s.values["identifier"] == "":
		return tenants.Invalid("body.identifier", "must be your e-mail address")
	}
	return nil
}

// checkTOTP brings the code to the one spelling under which it is remembered as
// used: Kratos accepts it with spaces around, and so would count it again.
func (s *submission) checkTOTP() error {
	code := strings.TrimSpace(s.values["totp_code"])
	if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
		return tenants.Invalid("body.totp_code", "must be the 6 digits that the app shows")
	}
	s.values["totp_code"] = code
	return nil
}

func (s *submission) checkCode() error {
	email, code := s.values["email"] != "", s.values["code"] != ""
	if email == code {
		return tenants.Invalid("body.code", "must be given, or email instead, and not both")
	}
	if code {
		c := strings.TrimSpace(s.values["code"])
		if len(c) == 0 || len(c) > 16 || strings.Trim(c, "0123456789") != "" {
			return tenants.Invalid("body.code", "must be the digits from the letter")
		}
		s.values["code"] = c
	}
	return nil
}

// encode returns exactly what was parsed, in the same media type.
func (s submission) encode() (contentType string, body []byte, err error) {
	if !s.json {
		form := url.Values{}
		for k, v := range s.values {
			form.Set(k, v)
		}
		return "application/x-www-form-urlencoded", []byte(form.Encode()), nil
	}
	doc := map[string]any{}
	for k, v := range s.values {
		if flags[k] {
			doc[k] = v == "true"
		} else {
			doc[k] = v
		}
	}
	body, err = json.Marshal(doc)
	return "application/json", body, err
}

func parseForm(body []byte) (map[string]string, error) {
	bad := httpx.Malformed("body", "must be a well-formed form")
	if bytes.ContainsAny(body, ";\x00") {
		return nil, bad
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, bad
	}
	if len(form) > maxFields {
		return nil, httpx.Malformed("body", "has too many fields")
	}
	out := make(map[string]string, len(form))
	for name, v := range form {
		if len(v) != 1 {
			return nil, tenants.Invalid("body."+clip(name), "must be given once")
		}
		out[name] = v[0]
	}
	return out, nil
}

// parseJSON reads one flat object. The standard decoder into a map would let the
// last of two equal names win where another reader takes the first.
func parseJSON(body []byte) (map[string]string, error) {
	bad := httpx.Malformed("body", "must be one JSON object")
	if !utf8.Valid(body) {
		return nil, httpx.Malformed("body", "must be valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	out := map[string]string{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, bad
		}
		name, _ := t.(string)
		if _, twice := out[name]; twice {
			return nil, tenants.Invalid("body."+clip(name), "must be given once")
		}
		v, err := d.Token()
		if err != nil {
			return nil, bad
		}
		switch v := v.(type) {
		case string:
			if flags[name] {
				return nil, tenants.Invalid("body."+name, "must be true or false")
			}
			out[name] = v
		case bool:
			if !flags[name] {
				return nil, tenants.Invalid("body."+clip(name), "must be a string")
			}
			out[name] = map[bool]string{true: "true", false: "false"}[v]
		default:
			return nil, tenants.Invalid("body."+clip(name), "must be a string")
		}
		if len(out) > maxFields {
			return nil, httpx.Malformed("body", "has too many fields")
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	return out, nil
}

// parseQuery returns the route's parameters, each at most once, or KindInvalid.
func parseQuery(r route, raw string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil || strings.Contains(raw, ";") {
		return nil, httpx.Malformed("query", "must be well-formed")
	}
	for name, v := range q {
		if !slices.Contains(r.query, name) {
			return nil, tenants.Invalid("query."+clip(name), "is not a parameter here")
		}
		if len(v) != 1 {
			return nil, tenants.Invalid("query."+clip(name), "must be given once")
		}
	}
	if r.action == submit || r.action == toForm {
		if _, err := tenants.ParseID(q.Get("flow")); err != nil {
			return nil, tenants.Invalid("query.flow", "must be the flow's id")
		}
	}
	return q, nil
}

// clip makes a name from outside fit for an error: known characters, not long.
func clip(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-' {
			return r
		}
		return '?'
	}, name)
	return name[:min(len(name), 40)]
}
