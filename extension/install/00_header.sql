\echo Use "CREATE EXTENSION submeter CASCADE" to load this file. \quit
