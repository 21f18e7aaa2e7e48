// Package measure is what the processes of bench have in common: how they
// answer the one that started them, and what they measure of themselves. It is
// a package so that programs in nested modules can be measured too.
package measure
