package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	password   = "correct horse battery"
	tokenTrust = 10 * time.Minute // an access token is good for 15
)

// church is a church that was signed up, with its admin's tokens.
type church struct {
	TenantID, AdminID, AccessToken, RefreshToken string

	email  string
	issued time.Time // of the access token
}

// api is Narthex's API, as clients see it.
type api struct {
	url    string
	client *http.Client
	count  atomic.Uint32 // of requests, and emails
}

func newAPI(url string) *api {
	return &api{url: url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * atOnce}}}
}

// register signs a church up.
func (a *api) register(ctx context.Context) (*church, error) {
	email := fmt.Sprintf("admin-%d@example.org", a.count.Add(1))
	body := map[string]string{"churchName": "Grace Chapel", "email": email, "password": password, "firstName": "Pat", "lastName": "Muster"}
	c := &church{email: email, issued: time.Now()}
	return c, a.post(ctx, "/api/auth/register", body, http.StatusCreated, c)
}

func (a *api) login(ctx context.Context, c *church) error {
	return a.post(ctx, "/api/auth/login", map[string]string{"email": c.email, "password": password}, http.StatusOK, nil)
}

// me reads the church's admin from its own database.
func (a *api) me(ctx context.Context, c *church) error {
	request, err := a.meRequest(ctx, c)
	if err != nil {
		return err
	}
	return a.do(request, http.StatusOK, nil)
}

func (a *api) meRequest(ctx context.Context, c *church) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/api/auth/me", nil)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+c.AccessToken)
	}
	return request, err
}

// renew makes sure that the church's access token is valid for some more minutes.
func (a *api) renew(ctx context.Context, c *church) error {
	if time.Since(c.issued) < tokenTrust {
		return nil
	}
	c.issued = time.Now()
	return a.post(ctx, "/api/auth/refresh", map[string]string{"refreshToken": c.RefreshToken}, http.StatusOK, c)
}

func (a *api) post(ctx context.Context, path string, body map[string]string, want int, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	n := a.count.Add(1)
	request.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)) // throttled, so each is a new client
	return a.do(request, want, answer)
}

func (a *api) do(request *http.Request, want int, answer any) error {
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != want {
		return fmt.Errorf("%s %s: status %d, want %d: %s", request.Method, request.URL.Path, response.StatusCode, want, body)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}
