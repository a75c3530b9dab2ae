package web

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Where flows begin: Kratos sets the flow's cookie and leads back to its page.
const (
	beginSignIn       = identitygate.Prefix + "self-service/login/browser"
	beginAgain        = beginSignIn + "?refresh=true"
	beginSecondFactor = beginSignIn + "?aal=aal2"
	beginRecovery     = identitygate.Prefix + "self-service/recovery/browser"
	beginSettings     = identitygate.Prefix + "self-service/settings/browser"
	beginVerification = identitygate.Prefix + "self-service/verification/browser"
)

// flow fetches the flow that the page's address names, for the holder of its
// cookies. ok is false, and the browser is led to where a new one begins, when
// there is none or it is over.
func (s *Site) flow(c *fiber.Ctx, kind identity.FlowKind, begin string) (f identity.Flow, ok bool, err error) {
	id := c.Query("flow")
	if id == "" {
		return f, false, see(c, begin)
	}
	f, err = s.fetch(c, kind, id)
	switch tenants.KindOf(err) {
	case "":
		return f, true, nil
	case tenants.KindNotFound, tenants.KindUnauthenticated:
		return f, false, see(c, begin)
	}
	return f, false, err
}

func (s *Site) fetch(c *fiber.Ctx, kind identity.FlowKind, id string) (identity.Flow, error) {
	if _, err := tenants.ParseID(id); err != nil {
		return identity.Flow{}, tenants.NotFound()
	}
	cred, err := identitygate.Credential(c, s.Gate.Realm())
	if err != nil {
		return identity.Flow{}, err
	}
	return s.Flows.Flow(c.UserContext(), kind, id, cred.Cookie)
}

// flowForm makes a form that submits one method of a flow, with what Kratos says
// of the last try beside its fields.
func flowForm(f identity.Flow, flow, method, submit string, fields ...Field) Form {
	form := Form{
		// Never the address that Kratos writes: the form goes to where we are.
		Action: identitygate.Prefix + "self-service/" + flow + "?flow=" + url.QueryEscape(f.ID), Submit: submit, Fields: fields,
		Hidden: []Field{{Name: "csrf_token", Value: f.CSRF()}, {Name: "method", Value: method}},
	}
	for i := range form.Fields {
		field := &form.Fields[i]
		n, ok := f.Node(field.Name)
		if !ok {
			continue
		}
		if field.Type != "password" && field.Value == "" && field.Type != "checkbox" {
			field.Value = n.Value
		}
		for _, m := range n.Messages {
			if m.Error {
				field.Error = wording(m)
			}
		}
	}
	for _, m := range f.Messages {
		if m.Error {
			form.Problem = wording(m)
		}
	}
	return form
}

// Texts of Kratos that say too little, or speak of its own terms, by their ids
// (kratos text/id.go).
var wordings = map[int64]string{
	4000006: "The e-mail address or the password is not right. Check both for typing mistakes.",
	4000008: "That code is not right. Wait for the app's next code, and check that the phone's clock is set automatically.",
	4000016: "That recovery code was used already.",
	4010001: "The form had been open for too long. Please try again.",
	4040001: "The form had been open for too long. Please try again.",
	4050001: "The form had been open for too long. Please try again.",
	4060005: "The form had been open for too long. Please ask for a new code.",
	4060006: "That code is not right or was used already. Check the newest letter, or ask for a new code.",
	4070006: "That code is not right or was used already. Check the newest letter, or ask for a new code.",
}

func wording(m identity.Message) string {
	if w, ok := wordings[m.ID]; ok {
		return w
	}
	return sentence(strings.TrimSpace(m.Text))
}
