package signature_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// A receiver verifies the bytes that it read before it looks into them.
func Example() {
	secret, err := signature.ParseSecret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		panic(err)
	}
	receive := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "cannot read the body", http.StatusBadRequest)
			return
		}
		if err := signature.Verify(r.Header, body, time.Now(), secret); err != nil {
			http.Error(w, "not signed by the sender", http.StatusUnauthorized)
			return
		}
		fmt.Printf("handle %s: %s\n", r.Header.Get(signature.HeaderID), body)
		w.WriteHeader(http.StatusNoContent)
	})

	const id, body = "0199f3c2-7a10-7b55-8c3e-1f2a3b4c5d6e", `{"type":"invoice.paid"}`
	signed := httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader(body))
	signature.SetHeaders(signed.Header, id, time.Now(), []byte(body), secret)
	forged := httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader(`{"type":"invoice.void"}`))
	forged.Header = signed.Header.Clone()

	for _, request := range []*http.Request{signed, forged} {
		answer := httptest.NewRecorder()
		receive.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// handle 0199f3c2-7a10-7b55-8c3e-1f2a3b4c5d6e: {"type":"invoice.paid"}
	// 204
	// 401
}
