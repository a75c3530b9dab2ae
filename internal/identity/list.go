package identity

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	ory "github.com/ory/client-go"
	"github.com/peterhellberg/link"

	"github.com/caresphere/caresphere/tenants"
)

// Listed is an identity as a list shows it.
type Listed struct {
	ID        tenants.ID
	CreatedAt time.Time
}

// listPage is how many identities one answer has.
var listPage int64 = 250

// List yields every identity of the realm. It ends with the first error: then nothing
// is known of the rest. Each page has the client's time limit.
func (c *Client) List(ctx context.Context) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		if err := c.needAdmin(); err != nil {
			yield(Listed{}, err)
			return
		}
		for token := ""; ; {
			page, next, err := c.listOnce(ctx, token)
			if err != nil {
				yield(Listed{}, err)
				return
			}
			for _, i := range page {
				id, err := tenants.ParseID(i.Id)
				if !yield(Listed{ID: id, CreatedAt: i.GetCreatedAt()}, err) || err != nil {
					return
				}
			}
			if next == "" || next == token || len(page) == 0 {
				return
			}
			token = next
		}
	}
}

func (c *Client) listOnce(ctx context.Context, token string) ([]ory.Identity, string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.admin.IdentityAPI.ListIdentities(ctx).PageSize(listPage)
	if token != "" {
		r = r.PageToken(token)
	}
	page, resp, err := r.Execute()
	closeBody(resp)
	if err != nil {
		return nil, "", translate("listing identities", resp, err)
	}
	return page, nextPage(resp), nil
}

// nextPage finds the token of the page after this one (RFC 8288, relation "next").
func nextPage(resp *http.Response) string {
	next := link.ParseResponse(resp)["next"]
	if next == nil {
		return ""
	}
	u, err := url.Parse(next.URI)
	if err != nil {
		return ""
	}
	return u.Query().Get("page_token")
}
