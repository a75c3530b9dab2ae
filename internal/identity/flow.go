package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/caresphere/caresphere/tenants"
)

// FlowKind is a kind of self-service flow.
type FlowKind string

// The kinds of flow that have a page.
const (
	FlowLogin        FlowKind = "login"
	FlowRecovery     FlowKind = "recovery"
	FlowSettings     FlowKind = "settings"
	FlowVerification FlowKind = "verification"
)

// Flow is a self-service flow as a page needs it.
type Flow struct {
	ID    string
	State string
	// Action is where its form is posted.
	Action   string
	Messages []Message
	Nodes    []Node
	// RequestedAAL is the level that a login flow was begun for: "aal1" or "aal2".
	RequestedAAL string
	// Refresh is true for a login flow that confirms an existing session.
	Refresh  bool
	ReturnTo string
}

// Message is a text of Kratos for its reader. ID is stable; Error tells that it is a failure.
type Message struct {
	ID    int64
	Text  string
	Error bool
}

// Node is one part of a flow: an input, an image, a text.
type Node struct {
	Group, Kind string
	// Name, Type and Value describe an input; Value is its text form.
	Name, Type, Value string
	Label             string
	// ID is the node's own id, for texts and images.
	ID string
	// Source is an image's data URI.
	Source string
	// Text is what a text node says; Secrets are the codes that it lists, if any.
	Text     string
	Secrets  []Secret
	Messages []Message
}

// Secret is one recovery code and whether it was used.
type Secret struct {
	Code string
	Used bool
}

// Node returns the first node with the name or id, and whether there is one.
func (f Flow) Node(name string) (Node, bool) {
	for _, n := range f.Nodes {
		if n.Name == name || n.ID == name {
			return n, true
		}
	}
	return Node{}, false
}

// Has tells whether the flow has an input of the group with this name.
func (f Flow) Has(group, name string) bool {
	for _, n := range f.Nodes {
		if n.Group == group && n.Name == name {
			return true
		}
	}
	return false
}

// CSRF is the value of the flow's anti-forgery token.
func (f Flow) CSRF() string {
	n, _ := f.Node("csrf_token")
	return n.Value
}

// Flow fetches a flow for the holder of the cookies that it was begun with.
// Errors: KindNotFound for one that is unknown, over, or somebody else's;
// KindUnauthenticated; KindUnavailable.
func (c *Client) Flow(ctx context.Context, kind FlowKind, id, cookie string) (Flow, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	api := c.public.FrontendAPI
	var (
		raw any
		err error
	)
	switch kind {
	case FlowLogin:
		raw, err = fetched(api.GetLoginFlow(ctx).Id(id).Cookie(cookie).Execute()) //nolint:bodyclose // fetched closes it
	case FlowRecovery:
		raw, err = fetched(api.GetRecoveryFlow(ctx).Id(id).Cookie(cookie).Execute()) //nolint:bodyclose // fetched closes it
	case FlowSettings:
		raw, err = fetched(api.GetSettingsFlow(ctx).Id(id).Cookie(cookie).Execute()) //nolint:bodyclose // fetched closes it
	case FlowVerification:
		raw, err = fetched(api.GetVerificationFlow(ctx).Id(id).Cookie(cookie).Execute()) //nolint:bodyclose // fetched closes it
	default:
		return Flow{}, tenants.NotFound()
	}
	switch tenants.KindOf(err) {
	case "":
		return readFlow(raw)
	case tenants.KindForbidden, tenants.KindInvalid:
		return Flow{}, tenants.WrapError(tenants.KindNotFound, "the form has expired", err)
	}
	return Flow{}, err
}

// fetched closes what the library left open and gives its error a kind.
func fetched[T any](raw T, resp *http.Response, err error) (any, error) {
	closeBody(resp)
	if err != nil {
		return nil, translate("fetching a flow", resp, err)
	}
	return raw, nil
}

// flowDoc is the part of a flow's JSON that Flow keeps.
type flowDoc struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	RequestedAAL string `json:"requested_aal"`
	Refresh      bool   `json:"refresh"`
	ReturnTo     string `json:"return_to"`
	UI           struct {
		Action   string    `json:"action"`
		Messages []textDoc `json:"messages"`
		Nodes    []struct {
			Type       string    `json:"type"`
			Group      string    `json:"group"`
			Messages   []textDoc `json:"messages"`
			Attributes struct {
				Name  string   `json:"name"`
				Type  string   `json:"type"`
				Value any      `json:"value"`
				ID    string   `json:"id"`
				Src   string   `json:"src"`
				Text  *textDoc `json:"text"`
			} `json:"attributes"`
			Meta struct {
				Label *textDoc `json:"label"`
			} `json:"meta"`
		} `json:"nodes"`
	} `json:"ui"`
}

type textDoc struct {
	ID      int64          `json:"id"`
	Text    string         `json:"text"`
	Type    string         `json:"type"`
	Context map[string]any `json:"context"`
}

func (t textDoc) message() Message { return Message{ID: t.ID, Text: t.Text, Error: t.Type == "error"} }

// The id of Kratos' text that stands for a used recovery code.
const usedSecretText = 1050014

func readFlow(raw any) (Flow, error) {
	b, err := json.Marshal(raw)
	if err != nil {
		return Flow{}, fmt.Errorf("re-encoding a flow: %w", err)
	}
	var d flowDoc
	if err := json.Unmarshal(b, &d); err != nil {
		return Flow{}, fmt.Errorf("reading a flow: %w", err)
	}
	f := Flow{ID: d.ID, State: d.State, Action: d.UI.Action, RequestedAAL: d.RequestedAAL, Refresh: d.Refresh, ReturnTo: d.ReturnTo}
	for _, m := range d.UI.Messages {
		f.Messages = append(f.Messages, m.message())
	}
	for _, n := range d.UI.Nodes {
		a := n.Attributes
		out := Node{Group: n.Group, Kind: n.Type, Name: a.Name, Type: a.Type, ID: a.ID, Source: a.Src}
		if a.Value != nil {
			out.Value = fmt.Sprint(a.Value)
		}
		if n.Meta.Label != nil {
			out.Label = n.Meta.Label.Text
		}
		if a.Text != nil {
			out.Text = a.Text.Text
			out.Secrets = secrets(a.Text.Context)
		}
		for _, m := range n.Messages {
			out.Messages = append(out.Messages, m.message())
		}
		f.Nodes = append(f.Nodes, out)
	}
	return f, nil
}

func secrets(context map[string]any) []Secret {
	list, _ := context["secrets"].([]any)
	var out []Secret
	for _, item := range list {
		m, _ := item.(map[string]any)
		text, _ := m["text"].(string)
		id, _ := m["id"].(float64)
		out = append(out, Secret{Code: text, Used: int64(id) == usedSecretText})
	}
	return out
}

// LogoutToken returns the token with which the browser's session may be ended.
// Errors: KindUnauthenticated, KindUnavailable.
func (c *Client) LogoutToken(ctx context.Context, cookie string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	got, resp, err := c.public.FrontendAPI.CreateBrowserLogoutFlow(ctx).Cookie(cookie).Execute()
	closeBody(resp)
	if err != nil {
		return "", translate("beginning to sign out", resp, err)
	}
	return got.LogoutToken, nil
}

// ErrorText returns what Kratos says of an error that it sent the browser to,
// for the reader. It is empty when the error is unknown or speaks of internals.
func (c *Client) ErrorText(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	got, resp, err := c.public.FrontendAPI.GetFlowError(ctx).Id(id).Execute()
	closeBody(resp)
	if err != nil {
		return ""
	}
	reason, _ := got.Error["reason"].(string)
	if strings.ContainsAny(reason, "\n{}<>") || len(reason) > 300 {
		return ""
	}
	return reason
}
