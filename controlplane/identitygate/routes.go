package identitygate

import (
	"net/http"
	"strings"

	"github.com/caresphere/caresphere/tenants"
)

// Prefix is where the gate is mounted on an origin.
const Prefix = "/.ory/"

// action says what a route does, for the guards.
type action int

const (
	passOn  action = iota // reading the session, fetching flows
	begin                 // begins a flow: writes a row in Kratos' database
	submit                // submits a flow
	signOut               // ends the session
	toForm                // leads back to the flow's page
	others                // lists or ends the account's other sessions
)

// route is one reachable operation of Kratos' public API.
type route struct {
	action action
	flow   flowName
	// query lists the parameters that may be given, each once.
	query []string
}

type flowName string

const (
	login        flowName = "login"
	recovery     flowName = "recovery"
	settings     flowName = "settings"
	verification flowName = "verification"
)

// routes is everything that is reachable. Registration is not: organizations sign
// up with us, members are invited. The admin API listens elsewhere altogether.
var routes = map[string]route{
	"GET self-service/login/browser": {begin, login, []string{"refresh", "aal", "return_to"}},
	"GET self-service/login/api":     {begin, login, []string{"refresh", "aal"}},
	"GET self-service/login/flows":   {passOn, login, []string{"id"}},
	"POST self-service/login":        {submit, login, []string{"flow"}},

	"GET self-service/recovery/browser": {begin, recovery, []string{"return_to"}},
	"GET self-service/recovery/api":     {begin, recovery, nil},
	"GET self-service/recovery/flows":   {passOn, recovery, []string{"id"}},
	"POST self-service/recovery":        {submit, recovery, []string{"flow"}},

	"GET self-service/settings/browser": {begin, settings, []string{"return_to"}},
	"GET self-service/settings/api":     {begin, settings, nil},
	"GET self-service/settings/flows":   {passOn, settings, []string{"id"}},
	"GET self-service/settings":         {toForm, settings, []string{"flow"}},
	"POST self-service/settings":        {submit, settings, []string{"flow"}},

	"GET self-service/verification/browser": {begin, verification, []string{"return_to"}},
	"GET self-service/verification/api":     {begin, verification, nil},
	"GET self-service/verification/flows":   {passOn, verification, []string{"id"}},
	"POST self-service/verification":        {submit, verification, []string{"flow"}},

	"GET self-service/logout/browser": {passOn, "", []string{"return_to"}},
	"GET self-service/logout":         {signOut, "", []string{"token", "return_to"}},
	"DELETE self-service/logout/api":  {signOut, "", nil},
	"GET self-service/errors":         {passOn, "", []string{"id"}},

	"GET sessions/whoami": {passOn, "", nil},
	"GET sessions":        {others, "", []string{"page", "per_page", "page_token", "page_size"}},
	"DELETE sessions":     {others, "", nil},

	"GET .well-known/ory/webauthn.js": {passOn, "", nil},
}

// find returns the route of a request; ok is false for anything not reachable.
func find(method, path string) (route, bool) {
	if r, ok := routes[method+" "+path]; ok {
		return r, true
	}
	if id, ok := strings.CutPrefix(path, "sessions/"); ok && method == http.MethodDelete {
		if _, err := tenants.ParseID(id); err == nil {
			return route{action: others}, true
		}
	}
	return route{}, false
}
