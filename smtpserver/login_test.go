package smtpserver

import (
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
)

var errWrong = errors.New("wrong password")

// checkLogin accepts one user.
func checkLogin(username, password string) error {
	if username != "user@example.com" || password != "s3cret" {
		return errWrong
	}
	return nil
}

func TestLogin(t *testing.T) {
	long := strings.Repeat("x", maxPassword)
	for _, tt := range []struct {
		name      string
		responses []string // "-" is none
		want      string   // the challenges
		err       error
	}{
		{"two steps", []string{"-", "user@example.com", "s3cret"}, "Username:,Password:", nil},
		{"initial response", []string{"user@example.com", "s3cret"}, "Password:", nil},
		{"wrong password", []string{"-", "user@example.com", "guess"}, "Username:,Password:", errWrong},
		{"wrong user", []string{"nobody", "s3cret"}, "Password:", errWrong},
		{"empty password", []string{"user@example.com", ""}, "Password:", errWrong},
		{"longest password", []string{"user@example.com", long}, "Password:", errWrong},
		{"longest user", []string{long[:maxIdentity], "x"}, "Password:", errWrong},
		{"empty user", []string{"-", ""}, "Username:", errLoginResponse},
		{"empty initial response", []string{""}, "", errLoginResponse},
		{"long user", []string{long[:maxIdentity+1]}, "", errLoginResponse},
		{"user on two lines", []string{"a\r\nb"}, "", errLoginResponse},
		{"user not UTF-8", []string{"a\xff"}, "", errLoginResponse},
		{"long password", []string{"user@example.com", long + "x"}, "Password:", errLoginResponse},
		{"NUL in the password", []string{"user@example.com", "a\x00b"}, "Password:", errLoginResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, challenges := newLoginServer(checkLogin), []string(nil)
			for i, response := range tt.responses {
				b := []byte(response)
				if response == "-" {
					b = nil
				}
				challenge, done, err := server.Next(b)
				if last := i == len(tt.responses)-1; last != (done || err != nil) {
					t.Fatalf("response %d: done %v, error %v", i, done, err)
				} else if last && !errors.Is(err, tt.err) {
					t.Fatalf("error %v, want %v", err, tt.err)
				} else if !last {
					challenges = append(challenges, string(challenge))
				}
			}
			if got := strings.Join(challenges, ","); got != tt.want {
				t.Errorf("challenges %q, want %q", got, tt.want)
			}
			if _, _, err := server.Next([]byte("s3cret")); !errors.Is(err, sasl.ErrUnexpectedClientResponse) {
				t.Errorf("behind the end: %v", err)
			}
		})
	}
}

// TestLoginClient: go-sasl's client gets in.
func TestLoginClient(t *testing.T) {
	client := sasl.NewLoginClient("user@example.com", "s3cret")
	mech, response, err := client.Start()
	if mech != sasl.Login || err != nil {
		t.Fatalf("client begins %s, %v", mech, err)
	}
	server := newLoginServer(checkLogin)
	for range 3 {
		challenge, done, err := server.Next(response)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
		if response, err = client.Next(challenge); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the authentication does not end")
}

// FuzzLogin: no conversation panics, lasts longer than three responses, or asks
// for a user that cannot be named.
func FuzzLogin(f *testing.F) {
	f.Add([]byte("user@example.com"), []byte("s3cret"), true)
	f.Add([]byte(""), []byte("\x00"), false)
	f.Fuzz(func(t *testing.T, first, second []byte, initial bool) {
		asked := ""
		server := newLoginServer(func(username, password string) error {
			asked = username
			if !validIdentity(username) || len(password) > maxPassword {
				t.Errorf("asked for %q with %d octets", username, len(password))
			}
			return nil
		})
		responses := [][]byte{nil, append([]byte{}, first...), append([]byte{}, second...)}
		if initial {
			responses = responses[1:]
		}
		for i, response := range responses {
			challenge, done, err := server.Next(response)
			if last := i == len(responses)-1; err == nil && (done != last || done != (challenge == nil)) {
				t.Fatalf("response %d: challenge %q, done %v", i, challenge, done)
			}
			if err != nil {
				return
			}
		}
		if asked != string(first) {
			t.Errorf("asked for %q instead of %q", asked, first)
		}
	})
}
