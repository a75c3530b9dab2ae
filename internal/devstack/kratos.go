package devstack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// CourierHeader carries the key by which the identity servers identify themselves
// when they hand a mail to the control plane.
const CourierHeader = "X-Courier-Key"

// KratosConfig says how one identity server is run: one realm of people.
type KratosConfig struct {
	// Realm is "customers" or "operators".
	Realm string
	// Bin is the server's binary; Dir holds its configuration; Log is its log.
	Bin, Dir, Log string
	// DSN is its own database, as its own role.
	DSN string
	// PublicPort and AdminPort are loopback ports, both TLS with Server.
	PublicPort, AdminPort int
	Server                pki.Pair
	// CA verifies the database and the mail endpoint.
	CA string
	// Origin is what the browser sees: pages at Origin, Kratos at Origin/.ory/.
	Origin string
	// Cookie is the name of the session cookie.
	Cookie string
	// Secrets sign and encrypt cookies and flows.
	Secrets KratosSecrets
	// BcryptCost is 12 for people, 4 in tests.
	BcryptCost int
	// MailURL takes every mail as JSON {to, template, subject, body, code} by
	// POST, with MailKey in CourierHeader.
	MailURL, MailKey string
	// SecondFactorByMail lets a code sent by e-mail count as Kratos' second
	// factor. The product never sets it: tests do, to show that its own gate
	// refuses such a session.
	SecondFactorByMail bool
}

// KratosSecrets are random texts of at least 32 characters; Cipher has exactly 32.
type KratosSecrets struct {
	Default, Cookie, Cipher string
}

// Kratos is a running identity server.
type Kratos struct {
	cfg     KratosConfig
	process *proc.Process
}

// StartKratos migrates the realm's database, starts the server and waits until
// both of its listeners answer.
func StartKratos(ctx context.Context, cfg KratosConfig) (*Kratos, error) {
	name := "kratos (" + cfg.Realm + ")"
	for _, port := range []int{cfg.PublicPort, cfg.AdminPort} {
		if err := CheckPort(name, port); err != nil {
			return nil, err
		}
	}
	settings, err := json.MarshalIndent(cfg.settings(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the settings of %s: %w", name, err)
	}
	// JSON is YAML; Kratos reads the format off the name.
	file := filepath.Join(cfg.Dir, cfg.Realm+".yaml")
	if err := writeSecret(file, settings); err != nil {
		return nil, err
	}
	env := plainEnv("DSN="+pooled(cfg.DSN), "SSL_CERT_FILE="+cfg.CA, "HOME="+cfg.Dir, "SQA_OPT_OUT=true")

	migrate, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(migrate, cfg.Bin, "migrate", "sql", "-e", "--yes", "-c", file)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("migrating the database of %s: %w\n%s", name, err, lastLines(string(out), 8))
	}

	k := &Kratos{cfg: cfg}
	k.process, err = proc.Start(proc.Spec{
		Name: name, Path: cfg.Bin, Args: []string{"serve", "-c", file, "--watch-courier", "--sqa-opt-out"},
		Env: env, Dir: cfg.Dir, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	client, err := httpsClient(cfg.CA)
	if err != nil {
		return nil, errors.Join(err, k.process.Stop(ctx))
	}
	err = k.process.Ready(ctx, func(ctx context.Context) error {
		return errors.Join(getOK(ctx, client, k.PublicURL()+"/health/ready"), getOK(ctx, client, k.AdminURL()+"/admin/health/ready"))
	})
	if err != nil {
		return nil, errors.Join(err, k.process.Stop(context.WithoutCancel(ctx)))
	}
	return k, nil
}

// pooled says how many connections Kratos holds. By itself it has two a core and keeps
// half of them: with two cores most requests then open one of their own, which costs
// more than all that they ask on it.
func pooled(dsn string) string {
	return dsn + "&max_conns=16&max_idle_conns=16&max_conn_idle_time=5m"
}

// PublicURL is the base of the self-service and session API.
func (k *Kratos) PublicURL() string { return loopbackURL(k.cfg.PublicPort) }

// AdminURL is the base of the admin API, which never leaves the loopback.
func (k *Kratos) AdminURL() string { return loopbackURL(k.cfg.AdminPort) }

// Process is the server, to be watched or stopped.
func (k *Kratos) Process() *proc.Process { return k.process }

type object = map[string]any

// settings is the server's configuration. Pages are ours, on the same origin;
// whoever has a second factor must use it; nobody registers by themselves.
func (c KratosConfig) settings() object {
	page := func(path string) string { return c.Origin + path }
	listener := func(port int, base string) object {
		return object{
			"host": "127.0.0.1", "port": port, "base_url": base,
			"request_log": object{"disable_for_health": true},
			"tls":         object{"cert": object{"path": c.Server.Cert}, "key": object{"path": c.Server.Key}},
		}
	}
	return object{
		"version": "v1.3.1",
		"serve": object{
			"public": listener(c.PublicPort, c.Origin+"/.ory/"),
			"admin":  listener(c.AdminPort, loopbackURL(c.AdminPort)+"/"),
		},
		"log":         object{"level": "warning", "format": "json", "leak_sensitive_values": false},
		"sqa-opt-out": true,
		"secrets":     object{"default": []string{c.Secrets.Default}, "cookie": []string{c.Secrets.Cookie}, "cipher": []string{c.Secrets.Cipher}},
		"ciphers":     object{"algorithm": "xchacha20-poly1305"},
		"hashers":     object{"algorithm": "bcrypt", "bcrypt": object{"cost": c.BcryptCost}},
		"cookies":     object{"path": "/", "same_site": "Lax"},
		"session": object{
			// Lifespan and extension together are an idle timeout: see the data plane's gate.
			"lifespan":                 "15m",
			"earliest_possible_extend": "14m",
			"cookie":                   object{"name": c.Cookie, "persistent": false, "path": "/", "same_site": "Lax"},
			"whoami":                   object{"required_aal": "aal1"},
		},
		"identity": object{
			"default_schema_id": "person",
			"schemas":           []object{{"id": "person", "url": "base64://" + base64.StdEncoding.EncodeToString(c.identitySchema())}},
		},
		"courier": c.courier(),
		"selfservice": object{
			"default_browser_return_url": page("/"),
			"allowed_return_urls":        []string{page("/")},
			"methods": object{
				"password":      object{"enabled": true, "config": object{"min_password_length": 12, "haveibeenpwned_enabled": false, "identifier_similarity_check_enabled": true}},
				"totp":          object{"enabled": true, "config": object{"issuer": "CareSphere"}},
				"lookup_secret": object{"enabled": true},
				"webauthn": object{"enabled": true, "config": object{"passwordless": false, "rp": object{
					"id": "localhost", "display_name": "CareSphere", "origins": []string{c.Origin},
				}}},
				// For recovery and verification only, never as a way to sign in.
				"code":    object{"enabled": true, "mfa_enabled": c.SecondFactorByMail, "passwordless_enabled": false, "config": object{"lifespan": "15m"}},
				"link":    object{"enabled": false},
				"profile": object{"enabled": true},
			},
			"flows": object{
				"registration": object{"enabled": false},
				"login":        object{"ui_url": page("/signin"), "lifespan": "15m"},
				"settings":     object{"ui_url": page("/account/setup"), "lifespan": "30m", "privileged_session_max_age": "15m", "required_aal": "highest_available"},
				"recovery":     object{"enabled": true, "ui_url": page("/recovery"), "use": "code", "lifespan": "30m", "notify_unknown_recipients": false},
				"verification": object{"enabled": true, "ui_url": page("/verification"), "use": "code", "lifespan": "30m", "notify_unknown_recipients": false},
				"logout":       object{"after": object{"default_browser_return_url": page("/")}},
				"error":        object{"ui_url": page("/error")},
			},
		},
	}
}

// identitySchema is what the realm knows about a person. The organization is in
// metadata_public, which the person cannot change.
func (c KratosConfig) identitySchema() []byte {
	credentials := object{"password": object{"identifier": true}, "totp": object{"account_name": true}, "webauthn": object{"identifier": true}}
	if c.SecondFactorByMail {
		credentials["code"] = object{"identifier": true, "via": "email"}
	}
	schema, _ := json.Marshal(object{ // a literal of strings and booleans always encodes
		"$id": "https://caresphere.dev/schemas/person.json", "$schema": "http://json-schema.org/draft-07/schema#",
		"title": "Person", "type": "object",
		"properties": object{"traits": object{
			"type": "object",
			"properties": object{
				"email": object{
					"type": "string", "format": "email", "title": "E-mail", "minLength": 3, "maxLength": 254,
					"ory.sh/kratos": object{
						"credentials":  credentials,
						"recovery":     object{"via": "email"},
						"verification": object{"via": "email"},
					},
				},
				"name": object{"type": "string", "title": "Name", "minLength": 1, "maxLength": 200},
			},
			"required": []string{"email", "name"}, "additionalProperties": false,
		}},
	})
	return schema
}

// courier hands every mail to our own endpoint, which keeps and sends it.
func (c KratosConfig) courier() object {
	const message = `function(ctx) {
  to: ctx.recipient,
  template: ctx.template_type,
  subject: ctx.subject,
  body: ctx.body,
  local data = if "template_data" in ctx then ctx.template_data else {},
  local codes = [data[k] for k in ["recovery_code", "verification_code", "login_code"] if k in data && data[k] != ""],
  code: if std.length(codes) > 0 then codes[0] else "",
}`
	return object{
		"delivery_strategy": "http",
		"message_retries":   10,
		"worker":            object{"pull_count": 10, "pull_wait": "200ms"},
		"http": object{"request_config": object{
			"url": c.MailURL, "method": "POST",
			"headers": object{"Content-Type": "application/json"},
			"body":    "base64://" + base64.StdEncoding.EncodeToString([]byte(message)),
			"auth":    object{"type": "api_key", "config": object{"name": CourierHeader, "value": c.MailKey, "in": "header"}},
		}},
	}
}

func loopbackURL(port int) string { return "https://localhost:" + strconv.Itoa(port) }

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
