package main

import (
	"crypto/tls"
	"os"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/web"
	"github.com/caresphere/caresphere/internal/openapi"
)

// described is a control plane that can say what it serves and serve nothing of it:
// it has routes and no services.
func described(t *testing.T) *plane {
	t.Helper()
	p := &plane{}
	realmOf := func(name session.Realm) *realm {
		r, err := newRealm(realmConfig{name: name, origin: "https://localhost", publicURL: "https://localhost", adminURL: "https://localhost",
			nav: []web.NavItem{{Path: "/account", Label: "Account"}}}, settings{}, &tls.Config{MinVersion: tls.VersionTLS12}, nil, nil)
		require.NoError(t, err)
		return r
	}
	p.customers, p.operators = realmOf(session.Customer), realmOf(session.Operator)
	return p
}

func TestTheKeptDescriptionsAreCurrent(t *testing.T) {
	p := described(t)
	write := os.Getenv(openapi.WriteVariable) != ""
	for name, app := range map[string]*fiber.App{"controlplane": p.publicApp(), "operators": p.operatorApp()} {
		require.NoError(t, openapi.Keep(app, "../../docs/openapi/"+name+".json", write))
	}
}
