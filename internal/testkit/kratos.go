package testkit

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// KratosOrigin is the browser's origin that the test realms are set up for. Flows
// name URLs below it; a test that drives the API uses PublicURL.
const KratosOrigin = "https://localhost:8443"

type kratosInfo struct {
	PublicURL, AdminURL, CA, Cookie string
	Mail                            mailInfo
}

// KratosServer is one realm's running identity server.
type KratosServer struct {
	// PublicURL and AdminURL are the bases of its two APIs, over TLS.
	PublicURL, AdminURL string
	// CA is the file of the authority that both certificates come from.
	CA string
	// Cookie is the name of the session cookie.
	Cookie string

	mail mailInfo
}

// KratosOption changes which realm Kratos returns.
type KratosOption func(url.Values)

// Operators asks for the operators' realm instead of the customers'.
func Operators() KratosOption { return func(v url.Values) { v.Set("realm", "operators") } }

// SecondFactorByMail asks for a realm whose Kratos takes a mailed code as a second
// factor, so that a test can show that our own gate refuses such a session.
func SecondFactorByMail() KratosOption { return func(v url.Values) { v.Set("mail_mfa", "true") } }

// Kratos returns the run's identity server of a realm, the customers' by default.
// It is shared: tests make identities of their own.
func Kratos(t testing.TB, options ...KratosOption) *KratosServer {
	t.Helper()
	params := url.Values{"realm": {"customers"}, "mail_mfa": {"false"}}
	for _, o := range options {
		o(params)
	}
	info := ask[kratosInfo](t, "kratos", params)
	return &KratosServer{PublicURL: info.PublicURL, AdminURL: info.AdminURL, CA: info.CA, Cookie: info.Cookie, mail: info.Mail}
}

// TLS returns a client configuration that trusts the server.
func (k *KratosServer) TLS(t testing.TB) *tls.Config {
	t.Helper()
	return &tls.Config{RootCAs: CA(t).Pool(), MinVersion: tls.VersionTLS12}
}

// Mail is a message that Kratos handed over.
type Mail struct {
	To       string `json:"to"`
	Template string `json:"template"`
	Subject  string `json:"subject"`
	Body     string `json:"body"`
	Code     string `json:"code"`
}

// AwaitMail waits until n mails to the address have been handed over, and returns
// all of them, oldest first.
func (k *KratosServer) AwaitMail(t testing.TB, to string, n int) []Mail {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get(k.mail.URL + "?to=" + url.QueryEscape(to))
		if err != nil {
			t.Fatalf("asking for mails: %v", err)
		}
		var mails []Mail
		err = json.NewDecoder(res.Body).Decode(&mails)
		_ = res.Body.Close()
		if err != nil {
			t.Fatalf("asking for mails: %v", err)
		}
		if len(mails) >= n {
			return mails
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d mails to %s arrived, not %d", len(mails), to, n)
		}
	}
}

func (h *Host) startKratos(ctx context.Context, realm string, mailMFA bool) (any, error) {
	cluster, err := h.cluster(ctx)
	if err != nil {
		return nil, err
	}
	mail, err := h.mailSink()
	if err != nil {
		return nil, err
	}
	built, err := h.builder.Build(ctx, tools.Kratos)
	if err != nil {
		return nil, err
	}
	name, role, cookie := "kratos_"+realm, "kratos", "caresphere_session"
	if realm == "operators" {
		role, cookie = "kratos_ops", "caresphere_operator"
	}
	if mailMFA {
		name += "_mail"
	}
	if err := devstack.PrepareKratosDatabase(ctx, cluster.Superuser, name, role); err != nil {
		return nil, err
	}
	ports, err := h.ports(2)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making %s: %w", dir, err)
	}
	k, err := devstack.StartKratos(ctx, devstack.KratosConfig{
		Realm: realm, Bin: built[tools.Kratos], Dir: dir, Log: h.log(name),
		DSN: cluster.DSN(name, role), PublicPort: ports[0], AdminPort: ports[1],
		Server: h.server, CA: h.ca.CertPath(), Origin: KratosOrigin, Cookie: cookie,
		Secrets:    devstack.KratosSecrets{Default: rand.Text() + rand.Text(), Cookie: rand.Text() + rand.Text(), Cipher: (rand.Text() + rand.Text())[:32]},
		BcryptCost: 4, MailURL: mail.URL, MailKey: mail.Key, SecondFactorByMail: mailMFA,
	})
	if err != nil {
		return nil, err
	}
	h.onClose(k.Process().Stop)
	return kratosInfo{PublicURL: k.PublicURL(), AdminURL: k.AdminURL(), CA: h.ca.CertPath(), Cookie: cookie, Mail: mail}, nil
}
