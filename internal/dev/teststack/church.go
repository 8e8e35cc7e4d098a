package teststack

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Church is a signed-up church, as one of its admins sees it.
type Church struct {
	*Stack
	Token string
}

// Church signs a church up.
func (s *Stack) Church() Church {
	s.T.Helper()
	return Church{Stack: s, Token: s.Register(Applicant())["accessToken"].(string)}
}

// Call sends a request with headers ("Name: value") and, unless body is nil, a JSON body.
func (c Church) Call(method, path string, body any, headers ...string) Answer {
	c.T.Helper()
	var content io.Reader
	if body != nil {
		content = JSONBody(c.T, body)
	}
	request := c.Request(method, path, c.Token, content)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	return c.Do(request)
}

// Want calls, and expects a status.
func (c Church) Want(status int, method, path string, body any, headers ...string) Answer {
	c.T.Helper()
	got := c.Call(method, path, body, headers...)
	if got.Status != status {
		c.T.Fatalf("%s %s: status %d, want %d\n%s", method, path, got.Status, status, got.Body)
	}
	return got
}

// Walk follows a list's next links from path, and returns the items' ids.
func (c Church) Walk(path string, between func(page int)) (all []string) {
	c.T.Helper()
	for page := 0; path != ""; page++ {
		got := c.Want(http.StatusOK, http.MethodGet, path, nil)
		var list struct {
			Items []struct{ ID string }
			Next  string
		}
		if err := json.Unmarshal(got.Body, &list); err != nil {
			c.T.Fatal(err)
		}
		for _, item := range list.Items {
			all = append(all, item.ID)
		}
		path = list.Next
		if link := got.Header.Get("Link"); (path == "") != (link == "") || path != "" && link != "<"+path+`>; rel="next"` {
			c.T.Errorf("next is %q, and Link %q", path, link)
		}
		between(page)
	}
	return all
}

// TenantID returns the church's tenant id.
func (c Church) TenantID() string {
	c.T.Helper()
	return c.Want(http.StatusOK, http.MethodGet, "/api/auth/me", nil).JSON(c.T)["tenantId"].(string)
}

// Invitee returns an invitation for somebody with a unique email.
func Invitee() map[string]any {
	person := Applicant()
	return map[string]any{"email": person["email"], "firstName": "Kim", "lastName": "Other"}
}

// Join invites somebody and accepts for them. It returns the church as the new admin sees it, and the admin's id.
func (c Church) Join(role string) (other Church, id string) {
	c.T.Helper()
	person := Invitee()
	person["role"] = role
	invited := c.Want(http.StatusCreated, http.MethodPost, "/api/admins/invitations", person).JSON(c.T)
	session := c.Accept(invited["invitationToken"])
	if session.Status != http.StatusOK {
		c.T.Fatalf("accept: status %d, want 200\n%s", session.Status, session.Body)
	}
	other = c
	other.Token = session.JSON(c.T)["accessToken"].(string)
	return other, invited["adminId"].(string)
}

// Accept accepts an invitation with a fixed password.
func (s *Stack) Accept(token any) Answer {
	s.T.Helper()
	return s.AcceptWith(token, "a password of mine")
}

// AcceptWith accepts an invitation with a password.
func (s *Stack) AcceptWith(token any, password string) Answer {
	s.T.Helper()
	return s.Post("/api/auth/invitations/accept", map[string]any{"invitationToken": token, "password": password})
}

// Admins returns the ids of the church's admins.
func (c Church) Admins() (ids []string) {
	c.T.Helper()
	return c.Walk("/api/admins?limit=1", func(int) {})
}
