// A receiver of Mainstem's webhooks: verify, remember the id, answer, then work.
//
//	WEBHOOK_SECRET=whsec_... PORT=8090 go run .
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type event struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Subject string `json:"subject"`
}

// The longest body that is read.
const longest = 16 << 20

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal("WEBHOOK_SECRET is not a secret")
	}
	var seen sync.Map // a table with a unique key, where it matters: deliveries come at least once
	http.HandleFunc("POST /", func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, longest)) // the bytes as they came are what is signed
		if err != nil {
			http.Error(response, "unreadable", http.StatusBadRequest)
			return
		}
		var received event
		if webhook.Verify(body, request.Header) != nil || json.Unmarshal(body, &received) != nil {
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		response.WriteHeader(http.StatusNoContent) // within 15 s; what takes longer belongs in a queue
		if _, again := seen.LoadOrStore(received.ID, nil); !again {
			fmt.Println(received.Type, received.Subject)
		}
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8090"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
