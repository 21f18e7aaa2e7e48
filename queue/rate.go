package queue

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// A Rate is how many handlers of a queue are started in how long. The zero Rate
// is none: nothing is held back.
//
// It is a token bucket: Burst of them may start at once when none has started
// for long, and further ones at even distances of Per/N.
type Rate struct {
	// N is how many start in Per. If it is not positive, the Rate is none.
	N int

	// Per is in how long they do.
	// Defaults to a second.
	Per time.Duration

	// Burst is how many may start at once.
	// Defaults to N, as in KumoMTA.
	Burst int
}

// rateUnits are the names of periods, the one that String writes first.
var rateUnits = []struct {
	per   time.Duration
	names []string
}{
	{time.Second, []string{"s", "sec", "second"}},
	{time.Minute, []string{"m", "min", "minute"}},
	{time.Hour, []string{"h", "hr", "hour"}},
	{24 * time.Hour, []string{"d", "day"}},
}

// ParseRate reads a Rate as KumoMTA writes it: a number, a slash and a period,
// such as "100/s", "5,000/min" or "10_000/d", and then, if at all,
// ",max_burst=20". Periods are s, sec, second, m, min, minute, h, hr, hour, d, day,
// and what [time.ParseDuration] reads, such as 90s. The empty text is the zero Rate.
func ParseRate(text string) (Rate, error) {
	if text == "" {
		return Rate{}, nil
	}
	r, err := parseRate(text)
	if err != nil {
		return Rate{}, fmt.Errorf("queue: rate %q: %w: want a number and a period, like 100/s or 5,000/m,max_burst=20", text, err)
	}
	return r, nil
}

func parseRate(text string) (r Rate, err error) {
	number, rest, ok := strings.Cut(text, "/")
	if !ok {
		return r, errors.New("without a slash")
	}
	period, option, hasOption := strings.Cut(rest, ",")
	if r.N, err = parseNumber(number); err != nil {
		return r, err
	}
	if r.Per, err = parsePeriod(period); err != nil {
		return r, err
	}
	if !hasOption {
		return r, nil
	}
	burst, ok := strings.CutPrefix(option, "max_burst=")
	if !ok {
		return r, fmt.Errorf("unknown option %q", option)
	}
	r.Burst, err = parseNumber(burst)
	return r, err
}

// parseNumber reads a positive number, whose thousands may be set apart.
func parseNumber(text string) (int, error) {
	digits := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '_' })
	plain := strings.Join(digits, "")
	separators := len(text) - len(plain)
	for i, group := range digits {
		if separators > 0 && (len(group) > 3 || i > 0 && len(group) < 3) || separators != len(digits)-1 {
			return 0, fmt.Errorf("the thousands of %q are not set apart", text)
		}
	}
	n, err := strconv.ParseUint(plain, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no number from 1 to %d", text, math.MaxInt32)
	}
	return int(n), nil
}

func parsePeriod(text string) (time.Duration, error) {
	for _, u := range rateUnits {
		for _, name := range u.names {
			if text == name {
				return u.per, nil
			}
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no period", text)
	}
	return d, nil
}

// String returns what [ParseRate] reads: "5000/m,max_burst=20". A Rate that is
// none is the empty text.
func (r Rate) String() string {
	r = r.withDefaults()
	if r.N == 0 {
		return ""
	}
	period := r.Per.String()
	for _, u := range rateUnits {
		if u.per == r.Per {
			period = u.names[0]
		}
	}
	text := fmt.Sprintf("%d/%s", r.N, period)
	if r.Burst != r.N {
		text += fmt.Sprintf(",max_burst=%d", r.Burst)
	}
	return text
}

// MarshalText implements [encoding.TextMarshaler] with [Rate.String].
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseRate].
func (r *Rate) UnmarshalText(text []byte) error {
	parsed, err := ParseRate(string(text))
	if err == nil {
		*r = parsed
	}
	return err
}

// withDefaults returns r with its zero fields filled, or the zero Rate if it is none.
func (r Rate) withDefaults() Rate {
	if r.N <= 0 {
		return Rate{}
	}
	if r.Per <= 0 {
		r.Per = time.Second
	}
	if r.Burst <= 0 {
		r.Burst = r.N
	}
	return r
}

// limit is N/Per. The bucket cannot reckon with the longest time that there is.
func (r Rate) limit() rate.Limit {
	return rate.Limit(float64(r.N) / min(r.Per, math.MaxInt64/2).Seconds())
}

// A limiter holds back what its Rate does not allow yet. Guarded by state.mu.
type limiter struct {
	rate   Rate // not none
	bucket *rate.Limiter
}

// newLimiter returns a limiter whose bucket is full; nil for a Rate that is none.
func newLimiter(r Rate) *limiter {
	if r.N == 0 {
		return nil
	}
	return &limiter{r, rate.NewLimiter(r.limit(), r.Burst)}
}

// set changes the Rate. What the bucket has remains, up to the new Burst.
func (l *limiter) set(r Rate, now time.Time) {
	if l.rate != r {
		l.rate = r
		l.bucket.SetLimitAt(now, r.limit())
		l.bucket.SetBurstAt(now, r.Burst)
	}
}

// take takes a token, or says for how long there is none; nothing is taken then.
func (l *limiter) take(now time.Time) (wait time.Duration) {
	if l.bucket.AllowN(now, 1) {
		return 0
	}
	return l.until(1, now)
}

// has reports whether n tokens are there.
func (l *limiter) has(n int, now time.Time) bool { return l.bucket.TokensAt(now) >= float64(n) }

// until is how long it takes until n tokens are there; zero: they are.
func (l *limiter) until(n int, now time.Time) time.Duration {
	missing := float64(n) - l.bucket.TokensAt(now)
	if missing < 1e-6 { // not more than rounding
		return 0
	}
	wait := math.Ceil(missing / float64(l.rate.limit()) * float64(time.Second))
	return time.Duration(min(wait, float64(math.MaxInt64/2)))
}
