package measure

import "time"

// A Meter measures what this process and its disk do.
type Meter struct {
	device *Device // nil if it is not known
}

// NewMeter returns a Meter for a process that writes to dir.
func NewMeter(dir string) *Meter {
	device, err := DeviceOf(dir)
	if err != nil {
		device = nil // who starts the process says so
	}
	return &Meter{device}
}

// Used is what was used until a moment, or between two. What is not known is 0.
type Used struct {
	CPU     time.Duration
	Written uint64  // by this process
	Device  Traffic // of everybody
}

// Read returns what was used so far.
func (m *Meter) Read() (u Used, err error) {
	if u.CPU, err = CPU(); err != nil {
		return u, err
	}
	u.Written = OwnIO().Written
	if m.device != nil {
		u.Device, err = m.device.Traffic()
	}
	return u, err
}

// Since returns what was used between before and u.
func (u Used) Since(before Used) Used {
	return Used{
		CPU: u.CPU - before.CPU, Written: u.Written - before.Written,
		Device: Traffic{u.Device.Written - before.Device.Written, u.Device.Flushes - before.Device.Flushes},
	}
}
