package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLanesToAServerAreBounded(t *testing.T) {
	s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool { says(w, fmt.Sprint(nth)); return true })
	s.each = 1
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
	require.NoError(t, err)
	held, err := s.exchange(req, true)
	require.NoError(t, err)
	cause := errors.New("waited for too long")
	ctx, end := context.WithCancelCause(t.Context())
	end(cause)
	_, err = s.ask(ctx, "GET", "", true)
	require.ErrorIs(t, err, cause)
	require.EqualValues(t, 1, s.asked.Load())
	waiting := make(chan string)
	go func() { text, _ := s.ask(t.Context(), "GET", "", true); waiting <- text }()
	require.NoError(t, held.Body.Close())
	require.Equal(t, "2", <-waiting)
	require.EqualValues(t, 2, s.opened.Load(), "a lane whose answer was left is not used again")
	// Failures give their place back too.
	_, err = s.ask(ctx, "GET", "", true)
	require.ErrorIs(t, err, cause)
	text, err := s.ask(t.Context(), "GET", "", true)
	require.NoError(t, err)
	require.Equal(t, "3", text)
}

func TestAnAnswerThatStreamsHoldsNoOthersPlace(t *testing.T) {
	s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool { says(w, fmt.Sprint(nth)); return true })
	s.each, s.lanes.streams = 1, 1
	begin := func() *lent {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
		require.NoError(t, err)
		resp, err := s.exchange(req, true)
		require.NoError(t, err)
		return resp.Body.(*lent)
	}
	first := begin()
	require.True(t, first.streams())
	text, err := s.ask(t.Context(), "GET", "", true)
	require.NoError(t, err)
	require.Equal(t, "2", text)
	second := begin()
	require.False(t, second.streams(), "there is one place")
	require.NoError(t, second.Close())
	// One that was read to its end carries the next exchange, in the place of its kind.
	_, err = io.ReadAll(first)
	require.NoError(t, err)
	third := begin()
	require.True(t, third.streams())
	require.NoError(t, third.Close())
	for _, d := range s.to {
		require.Empty(t, d.places)
		require.Empty(t, d.answers)
	}
}
