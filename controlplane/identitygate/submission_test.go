package identitygate

import (
	"bytes"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const flowID = "01920000-0000-7000-8000-000000000000"

func TestEveryMethodTakesItsFields(t *testing.T) {
	for _, c := range []struct {
		flow flowName
		body string
	}{
		{login, `{"method":"password","identifier":"a@example.org","password":"x","csrf_token":"t"}`},
		{login, `{"method":"totp","totp_code":"123456"}`},
		{login, `{"method":"lookup_secret","lookup_secret":"abcdefgh"}`},
		{login, `{"method":"webauthn","identifier":"a@example.org","webauthn_login":"{}"}`},
		{recovery, `{"method":"code","email":"a@example.org"}`},
		{recovery, `{"method":"code","code":"123456"}`},
		{verification, `{"method":"code","code":"123456"}`},
		{settings, `{"method":"password","password":"x"}`},
		{settings, `{"method":"totp","totp_code":"123456"}`},
		{settings, `{"method":"lookup_secret","lookup_secret_regenerate":true}`},
		{settings, `{"method":"webauthn","webauthn_register":"{}","webauthn_register_displayname":"Key"}`},
	} {
		s, err := parse(c.flow, flowID, "application/json", []byte(c.body))
		require.NoError(t, err, c.body)
		_, out, err := s.encode()
		require.NoError(t, err)
		assert.JSONEq(t, c.body, string(out), "what goes on is what came")
	}
}

func TestMethodsThatWouldWeakenAnAccountAreRefused(t *testing.T) {
	for _, c := range []struct {
		flow flowName
		body string
	}{
		{login, `{"method":"code","identifier":"a@example.org"}`},
		{login, `{"method":"oidc","provider":"x"}`},
		{login, `{"method":"passkey"}`},
		{settings, `{"method":"profile","traits":"x"}`},
		{settings, `{"method":"totp","totp_unlink":"true"}`},
		{settings, `{"method":"password","password":"x","totp_unlink":"true"}`},
		{settings, `{"method":"webauthn","webauthn_remove":"x"}`},
		{settings, `{"method":"lookup_secret","lookup_secret_disable":true}`},
		{recovery, `{"method":"link","email":"a@example.org"}`},
		{recovery, `{"method":"code","email":"a@example.org","code":"123456"}`},
		{recovery, `{"method":"code"}`},
	} {
		_, err := parse(c.flow, flowID, "application/json", []byte(c.body))
		require.Error(t, err, c.body)
	}
}

// Whatever parse lets through, any reader of what goes on to Kratos sees the same
// values that the guards saw.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"method=totp&totp_code=123456", "method=totp&totp_code=123456&totp_code=654321", `{"method":"totp","totp_code":"123456"}`,
		`{"method":"totp","totp_code":" 123456 "}`, `{"method":"password","identifier":"a","password":"\u0000"}`, "method=code&code=1%00"} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, asJSON bool, body string) {
		contentType := "application/x-www-form-urlencoded"
		if asJSON {
			contentType = "application/json"
		}
		for _, flow := range []flowName{login, settings, recovery, verification} {
			s, err := parse(flow, flowID, contentType, []byte(body))
			if err != nil {
				continue
			}
			_, out, err := s.encode()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			if asJSON {
				d := map[string]any{}
				if err := json.NewDecoder(bytes.NewReader(out)).Decode(&d); err != nil {
					t.Fatal(err)
				}
				for k, v := range d {
					switch v := v.(type) {
					case string:
						got[k] = v
					case bool:
						got[k] = map[bool]string{true: "true", false: "false"}[v]
					default:
						t.Fatalf("%s is a %T", k, v)
					}
				}
			} else {
				form, err := url.ParseQuery(string(out))
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range form {
					if len(v) != 1 {
						t.Fatalf("%s is there %d times", k, len(v))
					}
					got[k] = v[0]
				}
			}
			if len(got) != len(s.values) {
				t.Fatalf("%v became %v", s.values, got)
			}
			for k, v := range s.values {
				if got[k] != v {
					t.Fatalf("%s: the guards saw %q, Kratos %q", k, v, got[k])
				}
			}
			if s.method == "totp" && len(got["totp_code"]) != 6 {
				t.Fatalf("code %q", got["totp_code"])
			}
		}
	})
}
