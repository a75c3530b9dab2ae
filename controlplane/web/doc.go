// Package web serves the pages of both origins: plain HTML made on the server,
// which works without scripts, on a phone and with a screen reader.
//
// It owns layout, style and the wording of pages, and no rule of the business: a
// page calls the same domain method as its JSON operation. It trusts the session
// gate for who is signed in, and renders flows of Kratos as Kratos gives them. It
// never writes a value into a page but through html/template, uses no inline
// script or style, and shows no cause of an error.
//
// # Adding a page
//
//  1. Put templates/<name>.html here. It defines "content"; .Data is the page's
//     own value. Parts to use: {{template "field" (.Data.Form.Field "x")}},
//     {{template "errors" .Data.Form}}, {{template "steps" .}}.
//  2. Add a handler in a file of its own, as a method of Site or a type of yours
//     with a *Renderer: renderer.Render(c, 200, "<name>", Page{Title: …, Data: …}).
//  3. Mount it behind site.SignedIn(true) (second factor given, onboarding done)
//     and read the session with Current(c). Unsafe methods are checked to come
//     from our own origin before any handler runs: a form needs no token.
//  4. On an error of a domain, form.Fail(err) puts field errors beside their
//     fields and returns the status; render the same page again with it. What
//     was typed stays, as long as the handler filled the fields' values.
package web
