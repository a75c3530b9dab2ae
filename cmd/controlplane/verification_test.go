package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The trail tells a right code from a wrong one, for programs and for browsers.
func TestVerificationIsRecordedAsItEnded(t *testing.T) {
	t.Parallel()
	w := start(t)
	denied, passed := 0, 0
	recorded := func(after string) {
		t.Helper()
		of := func(outcome string) int {
			return w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'account.verification' AND outcome = $1", outcome)
		}
		assert.Equal(t, denied, of("denied"), after)
		assert.Equal(t, passed, of("ok"), after)
	}

	program := w.signedUp(t)
	f := readFlowState(program.get("/.ory/self-service/verification/api"))
	require.Equal(t, http.StatusOK, program.submit("verification", f, "code", "email", program.email).status)
	code := w.customers.AwaitMail(t, program.email, 1)[0].Code
	recorded("asked by a program")
	program.submit("verification", f, "code", "code", other(code))
	denied++
	recorded("a wrong code")
	r := program.submit("verification", f, "code", "code", code)
	require.Equal(t, "passed_challenge", r.doc["state"], "%s", r.body)
	passed++
	recorded("the right code")
	program.submit("verification", f, "code", "code", code)
	denied++
	recorded("the same once more")

	browser := w.signedUp(t)
	browser.accept = "text/html"
	r = browser.get("/.ory/self-service/verification/browser")
	page, err := url.Parse(r.header.Get("Location"))
	require.NoError(t, err)
	id := page.Query().Get("flow")
	browser.accept = "application/json"
	csrf := readFlowState(browser.get("/.ory/self-service/verification/flows?id=" + id)).csrf
	require.NotEmpty(t, csrf)
	browser.accept = "text/html"
	submit := func(field, value string) {
		t.Helper()
		r := browser.form("/.ory/self-service/verification?flow="+id, url.Values{"method": {"code"}, field: {value}, "csrf_token": {csrf}})
		require.Equal(t, http.StatusSeeOther, r.status, "%s", r.body)
	}
	submit("email", browser.email)
	code = w.customers.AwaitMail(t, browser.email, 1)[0].Code
	recorded("asked by a browser")
	submit("code", other(code))
	denied++
	recorded("a wrong code in a browser")
	submit("code", code)
	passed++
	recorded("the right code in a browser")
	submit("code", code)
	denied++
	recorded("the same once more in a browser")
	assert.Equal(t, 2, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'account.verification_requested' AND outcome = 'ok'"))
}

// other is a code of the same form that is not this one.
func other(code string) string {
	return strings.Map(func(r rune) rune { return '0' + (r-'0'+1)%10 }, code)
}

func TestVerificationLettersAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	w := start(t)
	o, another := w.signedUp(t), w.signedUp(t)
	p := w.person(t)
	ask := func(email string) int {
		return p.submit("verification", readFlowState(p.get("/.ory/self-service/verification/api")), "code", "email", email).status
	}
	for i := range 5 {
		require.Equal(t, http.StatusOK, ask(o.email), "letter %d", i)
	}
	assert.Equal(t, http.StatusTooManyRequests, ask(strings.ToUpper(o.email)), "however it is spelled")
	assert.Equal(t, http.StatusOK, ask(another.email), "another address")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'account.verification' AND outcome = 'denied' AND detail->>'reason' = 'rate_limited'"))
}
