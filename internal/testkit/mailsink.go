package testkit

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
)

type mailInfo struct {
	URL, Key string
}

// mailSink takes what the identity servers hand over, in the form that the
// control plane's endpoint takes, and gives it to tests.
func (h *Host) mailSink() (mailInfo, error) {
	v, err := h.once("mail", func(context.Context) (any, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("listening for mail: %w", err)
		}
		info := mailInfo{URL: "http://" + l.Addr().String() + "/", Key: rand.Text()}
		sink := &sink{key: info.Key}
		server := &http.Server{Handler: sink, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = server.Serve(l) }()
		h.onClose(func(context.Context) error { return server.Close() })
		return info, nil
	})
	if err != nil {
		return mailInfo{}, err
	}
	return v.(mailInfo), nil
}

type sink struct {
	key   string
	mu    sync.Mutex
	mails []Mail
}

// ServeHTTP takes a mail by POST and lists those to one address by GET.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		if subtle.ConstantTimeCompare([]byte(r.Header.Get(devstack.CourierHeader)), []byte(s.key)) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var m Mail
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&m); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.mails = append(s.mails, m)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet:
		found := []Mail{}
		s.mu.Lock()
		for _, m := range s.mails {
			if m.To == r.URL.Query().Get("to") {
				found = append(found, m)
			}
		}
		s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(found)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
